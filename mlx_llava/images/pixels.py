"""Decode an image file to RGB, and turn it into the square float array that the vision tower takes.

Files are untrusted: the content decides the format, sizes are checked in the header before decoding, and anything
unreadable or too large is an ImageError. Knows nothing of MLX.
"""

import hashlib
import io
import threading
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, TiffImageFile

from mlx_llava.config import ImageConfig
from mlx_llava.errors import ImageError

Decoding = Literal["display", "training"]
"""How a file becomes RGB.

`display`, for chats: as an image viewer shows it. EXIF orientation is applied, transparency is put on white, and 16-bit
gray keeps its full range; integers of unknown range are refused.
`training`, to train and evaluate as LLaVA does: Pillow's plain `convert("RGB")`, which ignores orientation, drops alpha
and clips 16-bit gray.
"""

# Formats Pillow may try, by content; never EPS, for which it would start Ghostscript
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF")
MAX_BYTES = 64_000_000  # of a file
MAX_PIXELS = 64_000_000  # 256 MB in memory
MAX_EDGE = 16_384
BAND = 256  # rows padded at a time: 16 MB at the longest edge

# Brands of HEIF files: ISO/IEC 23008-12
HEIF = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"))
# Transposition that undoes each value of the tag Orientation: EXIF 2.32
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_FORMAT_ADVICE = "Give a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM image."
_SIZE_ADVICE = f"Make it smaller: at most {MAX_PIXELS // 10**6} million pixels, {MAX_EDGE} along an edge."

_one_at_a_time = threading.Lock()  # warnings.catch_warnings changes the whole process


def open_image(source: Path | bytes, decoding: Decoding, name: str = "") -> Image.Image:
    """Decode the first frame of a file to RGB; ImageError if it is missing, damaged or too large.

    Args:
        name: of the image in errors; by default its path, or `image` for bytes.
    """
    name = name or ("image" if isinstance(source, bytes) else str(source))
    data = source if isinstance(source, bytes) else _read(source)
    if not data:
        raise ImageError(f"{name}: the file is empty", _FORMAT_ADVICE)
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(name)
    with _one_at_a_time, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
            _check_header(image, name)
            return to_rgb(image, decoding, name)
        except ImageError:
            raise
        except Exception as error:  # Pillow's parsers raise almost anything
            raise _explain(error, data, name) from error


def to_rgb(image: Image.Image, decoding: Decoding, name: str = "image") -> Image.Image:
    """An RGB copy of an image of any mode; ImageError if its values have no known range."""
    if image.mode == "F":
        raise ImageError(f"{name}: its pixels are floating-point numbers", "Save it as an 8-bit PNG.")
    if decoding == "training":
        return image.convert("RGB")
    if image.mode.startswith("I"):
        return _upright(_from_integers(image, name), image)
    image = _with_scaled_key(image)
    return _upright(_on_white(image) if image.has_transparency_data else image.convert("RGB"), image)


def crop(image: Image.Image, config: ImageConfig, name: str = "image") -> np.ndarray:
    """An RGB image as the tower's float32 input, [side, side, 3]; ImageError if it is too long and thin."""
    check_shape(image.size, config, name)
    window = _padded(image, config) if config.fit == "pad" else _middle(image, config.side)
    pixels = (np.asarray(window, np.float64) * (1 / 255)).astype(np.float32)
    return (pixels - np.array(config.mean, np.float32)) / np.array(config.std, np.float32)


def check_shape(size: tuple[int, int], config: ImageConfig, name: str = "image") -> None:
    """ImageError if an image of this width and height is too long and thin for `crop`."""
    longer = config.side * max(size) // min(size)  # of the resized image, before its middle is cut out
    if max(size) > MAX_EDGE if config.fit == "pad" else config.side * longer > MAX_PIXELS:
        raise ImageError(f"{name}: {size[0]} x {size[1]} pixels are too long and thin", "Crop it first.")


def to_image(pixels: np.ndarray, config: ImageConfig) -> Image.Image:
    """The inverse of `crop`'s normalization: the tower's input [side, side, 3] as an RGB image."""
    colors = (pixels * np.array(config.std) + np.array(config.mean)) * 255
    return Image.fromarray(np.clip(np.rint(colors), 0, 255).astype(np.uint8))


def png(pixels: np.ndarray, config: ImageConfig) -> bytes:
    """The tower's input [side, side, 3] as a PNG file."""
    file = io.BytesIO()
    to_image(pixels, config).save(file, "PNG")
    return file.getvalue()


def identity(image: Image.Image) -> str:
    """SHA-256 of the size and the pixels of an RGB image, in hexadecimal."""
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def _middle(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter edge to `side`, then take the central square."""
    longer = side * max(image.size) // min(image.size)
    width, height = (side, longer) if image.width <= image.height else (longer, side)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))


def _padded(image: Image.Image, config: ImageConfig) -> Image.Image:
    """Center the image on a square of the mean color, resized to `side`.

    The whole square may take 1 GB. Pillow resizes along rows first, so bands of rows give the same bits.
    """
    color = tuple(int(x * 255) for x in config.mean)
    edge = max(image.size)
    left, top = (edge - image.width) // 2, (edge - image.height) // 2
    narrow = Image.new("RGB", (config.side, edge), color)
    for y in range(0, image.height, BAND):
        rows = min(BAND, image.height - y)
        band = Image.new("RGB", (edge, rows), color)
        band.paste(image.crop((0, y, image.width, y + rows)), (left, 0))
        narrow.paste(band.resize((config.side, rows), Image.Resampling.BICUBIC), (0, top + y))
    return narrow.resize((config.side, config.side), Image.Resampling.BICUBIC)


def _from_integers(image: Image.Image, name: str) -> Image.Image:
    """Gray integers of 16 bits as RGB; a transparent value becomes white."""
    if image.mode == "I" and image.format != "PPM":  # whose values Pillow scales to 16 bits
        raise ImageError(f"{name}: its pixels are integers of unknown range", "Save it as an 8-bit PNG.")
    values = np.asarray(image).astype(np.int32)
    high = np.clip(values >> 8, 0, 255)  # the high byte, as Pillow does for color
    if isinstance(image, TiffImageFile):
        bits = image.tag_v2.get(BITSPERSAMPLE, (16,))[0]  # 12 or 16
        high = np.clip(values >> (bits - 8), 0, 255)
        high = 255 - high if image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0 else high  # 0 is white
    high[values == image.info.get("transparency")] = 255
    return Image.fromarray(high.astype(np.uint8)).convert("RGB")


def _with_scaled_key(image: Image.Image) -> Image.Image:
    """A PNG whose transparent color has 8 bits, as its pixels; Pillow leaves it at the file's depth (PNG 11.3.2.1)."""
    key = image.info.get("transparency")
    depth = image.tile[0].args if isinstance(image, PngImageFile) and image.tile else None
    if key is None or depth not in ("L;2", "L;4", "RGB;16B"):
        return image
    image = image.copy()
    scales = {"L;2": 85, "L;4": 17}
    image.info["transparency"] = key * scales[depth] if depth in scales else tuple(value >> 8 for value in key)
    return image


def _on_white(image: Image.Image) -> Image.Image:
    """An image with transparency, on white."""
    image = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(image, mask=image)
    return white


def _upright(rgb: Image.Image, original: Image.Image) -> Image.Image:
    """Apply the EXIF orientation; unlike Pillow's `exif_transpose`, other tags may be damaged."""
    try:
        turn = TURNS.get(original.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # the pixels are fine
        turn = None
    return rgb if turn is None else rgb.transpose(turn)


def _read(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise ImageError(f"{path}: a folder, not an image", "Give the path of one image.")
        if not path.is_file():
            if path.exists():
                raise ImageError(f"{path}: not a regular file", "Save it as a file, or pipe it in.")
            raise ImageError(f"{path}: no such file", "Check the path.")
        if path.stat().st_size > MAX_BYTES:
            raise _too_many_bytes(str(path))
        return path.read_bytes()
    except OSError as error:
        raise ImageError(f"{path}: {error.strerror}", "Check the path and its permissions.") from error


def _check_header(image: Image.Image, name: str) -> None:
    """Reject an image that would take too much memory."""
    width, height = image.size
    if width * height > MAX_PIXELS or max(width, height) > MAX_EDGE:
        raise ImageError(f"{name}: {width} x {height} pixels are too many", _SIZE_ADVICE)


def _explain(error: Exception, data: bytes, name: str) -> ImageError:
    """An error without Pillow's message, which may contain addresses of objects."""
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(f"{name}: too many pixels", _SIZE_ADVICE)
    if data[4:8] == b"ftyp" and data[8:12] in HEIF:
        return ImageError(f"{name}: HEIC images are not supported", "Export it as JPEG.")
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{name}: not an image in a supported format", _FORMAT_ADVICE)
    return ImageError(f"{name}: the image is damaged or incomplete", "Download or save it again.")


def _too_many_bytes(name: str) -> ImageError:
    return ImageError(f"{name}: the file has more than {MAX_BYTES // 10**6} MB", _SIZE_ADVICE)
