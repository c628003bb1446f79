"""Writes tests/golden/pixels.npz: picture files, and what transformers' CLIP processor makes of them.

python tests/parity/make_pixels_golden.py
"""

import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, ImageOps
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mlx_llava.images.pixels import Decoding

Fit = Literal["crop", "pad"]
FITS: tuple[Fit, ...] = ("crop", "pad")
DECODINGS: dict[str, Decoding] = {"exact": "training", "seen": "display"}  # by their names in the recorded file
GOLDEN = Path(__file__).parents[1] / "golden" / "pixels.npz"
SIDE = 21


def pattern(width: int, height: int, channels: int) -> np.ndarray:
    """Slopes of several steepnesses with jumps: uint8 [height, width, channels]."""
    y, x = np.mgrid[:height, :width]
    planes = (5 * x + y, 3 * y + 2 * x, (x * y) // 4, 4 * x + 4 * y)
    return np.stack(planes[:channels], -1).astype(np.uint8)


def encode(image: Image.Image, format: str, **options: Any) -> bytes:
    """The bytes of a picture file."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def turned(orientation: int) -> Image.Exif:
    """EXIF data that says how the camera was held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


def image_files() -> dict[str, bytes]:
    """Files of every kind that becomes RGB in a way of its own."""
    grey, rgb, rgba = (Image.fromarray(pattern(61, 47, n).squeeze()) for n in (1, 3, 4))
    palette = rgb.quantize(16)
    deep = Image.fromarray(np.linspace(0, 65535, 61 * 47).astype(np.uint16).reshape(47, 61))
    return {
        "rgb.png": encode(rgb, "PNG"),
        "rgb with one transparent colour.png": encode(rgb, "PNG", transparency=rgb.getpixel((9, 9))),
        "rgba.png": encode(rgba, "PNG"),
        "grey.png": encode(grey, "PNG"),
        "grey and alpha.png": encode(Image.fromarray(pattern(61, 47, 2), "LA"), "PNG"),
        "palette.png": encode(palette, "PNG"),
        "palette with alpha.png": encode(palette, "PNG", transparency=bytes(range(0, 256, 16))),
        "palette with one transparent colour.png": encode(palette, "PNG", transparency=3),
        "16-bit grey.png": encode(deep, "PNG"),
        "1-bit.png": encode(grey.convert("1"), "PNG"),
        "cmyk.jpg": encode(rgb.convert("CMYK"), "JPEG"),
        "rotated.jpg": encode(rgb, "JPEG", subsampling=0, exif=turned(6)),
        "animated.gif": encode(rgb, "GIF", save_all=True, append_images=[ImageOps.invert(rgb)]),
        "rgba.webp": encode(rgba, "WEBP", lossless=True),
        "one pixel wide.png": encode(rgb.crop((5, 0, 6, 47)), "PNG"),
        "one pixel high.png": encode(rgb.crop((0, 5, 61, 6)), "PNG"),
        "smaller than the window.png": encode(rgb.crop((0, 0, 13, 9)), "PNG"),
    }


def loaded(file: bytes, decoding: Decoding) -> Image.Image:
    """A picture as LLaVA's scripts open it, or turned upright and its transparency left to the processor."""
    image = Image.open(io.BytesIO(file))
    if decoding == "display":
        return ImageOps.exif_transpose(image)
    image = image.convert("RGB")
    image.info.pop("transparency", None)  # this processor would put it on white; LLaVA's, of 2023, did not
    return image


def expand2square(image: Image.Image, colour: tuple[int, ...]) -> Image.Image:
    """The picture in the middle of a square as large as its longer edge."""
    edge = max(image.size)
    square = Image.new("RGB", (edge, edge), colour)
    square.paste(image, ((edge - image.width) // 2, (edge - image.height) // 2))
    return square


def reference(image: Image.Image, side: int, fit: Fit) -> np.ndarray:
    """What transformers' CLIP processor makes of a picture, float32 [side, side, 3]."""
    processor: Any = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    if fit == "pad":
        colour = tuple(int(255 * x) for x in processor.image_mean)
        image = expand2square(Image.fromarray(processor.convert_to_rgb(image)), colour)
    return processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)


def golden() -> Iterator[tuple[str, np.ndarray]]:
    """A file's bytes under its name, and what becomes of it under `name|look|fit`."""
    for name, file in image_files().items():
        yield name, np.frombuffer(file, np.uint8)
        for recorded, decoding in DECODINGS.items():
            if decoding == "display" and name.startswith("16-bit"):
                continue  # transformers clips what `seen` keeps
            for fit in FITS:
                yield f"{name}|{recorded}|{fit}", reference(loaded(file, decoding), SIDE, fit)


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow dislikes palettes with alpha
        arrays: dict[str, Any] = dict(golden())
        np.savez_compressed(GOLDEN, **arrays)
