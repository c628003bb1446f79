import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import chunk, encode, png
from PIL import ExifTags, Image, ImageOps

from mlx_llava.config import ImageConfig
from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import FORMATS, Decoding, crop, identity, open_image

ROOT = Path(__file__).parents[2]
GOLDEN = dict(np.load(ROOT / "tests" / "golden" / "pixels.npz"))  # by tests/parity/make_pixels_golden.py
DECODINGS: dict[str, Decoding] = {"exact": "training", "seen": "display"}  # by their names in the golden file
FILES = {name: array.tobytes() for name, array in GOLDEN.items() if "|" not in name}


def one_bit_png(width: int, height: int, *chunks: bytes) -> bytes:
    return png(struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0), *chunks)


def slope(width: int = 40, height: int = 24) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(np.stack([5 * x, 7 * y, 3 * (x + y)], -1).astype(np.uint8))


def same(a: Image.Image, b: Image.Image) -> bool:
    return (a.mode, a.size, a.tobytes()) == (b.mode, b.size, b.tobytes())


def refusal(source: Path | bytes, decoding: Decoding = "display") -> ImageError:
    with pytest.raises(ImageError) as caught:
        open_image(source, decoding)
    return caught.value


# The tower's input


@pytest.mark.parametrize("key", [key for key in GOLDEN if "|" in key])
def test_a_file_becomes_the_numbers_that_transformers_makes_of_it(key: str) -> None:
    name, recorded, fit = cast("tuple[str, str, Any]", key.split("|"))
    decoding = DECODINGS[recorded]
    config = ImageConfig(side=len(GOLDEN[key]), fit=fit)
    ours = crop(open_image(FILES[name], decoding), config)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, GOLDEN[key], rtol=0, atol=1e-6)  # a step of 8 bits is 1.4e-2


@given(st.integers(1, 700), st.integers(1, 700))
@settings(max_examples=40, deadline=None)
def test_padding_in_bands_gives_the_bits_of_padding_the_whole_square(width: int, height: int) -> None:
    image, edge = slope(width, height), max(width, height)
    square = Image.new("RGB", (edge, edge), (122, 116, 104))  # LLaVA's colour: int(255 * mean)
    square.paste(image, ((edge - width) // 2, (edge - height) // 2))
    padded = crop(image, ImageConfig(side=56, fit="pad"))
    np.testing.assert_array_equal(padded, crop(square, ImageConfig(side=56, fit="crop")))


@pytest.mark.parametrize("size", [(1, 4000), (16_384, 2)])
def test_an_image_too_long_and_thin_to_resize_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"too long and thin\nCrop it first"):
        crop(Image.new("RGB", size), ImageConfig(fit="crop"))


def test_an_image_too_long_to_pad_is_refused() -> None:
    with pytest.raises(ImageError, match="1 x 60000 pixels are too long and thin"):
        crop(Image.new("RGB", (1, 60_000)), ImageConfig(fit="pad"))


def test_the_identity_depends_on_pixels_and_shape_only() -> None:
    wide, tall, other = Image.new("RGB", (4, 2)), Image.new("RGB", (2, 4)), Image.new("RGB", (4, 2), "red")
    assert len({identity(wide), identity(tall), identity(other)}) == 3
    assert identity(slope()) == identity(open_image(encode(slope(), "PNG", dpi=(72, 72)), "display"))


# The two decodings


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("decoding", ["display", "training"])
def test_display_applies_the_orientation_and_training_ignores_it(decoding: Decoding, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = encode(slope(), "PNG", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(file))) if decoding == "display" else slope()
    assert same(open_image(file, decoding), expected)


def test_a_damaged_exif_tag_does_not_hide_the_orientation() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.XResolution] = 72.0
    damaged = exif.tobytes().replace(b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02")  # a number becomes a text
    file = encode(slope(), "PNG", exif=damaged)
    with pytest.raises(TypeError):
        ImageOps.exif_transpose(Image.open(io.BytesIO(file)))  # why we do not use Pillow's own
    assert open_image(file, "display").size == (24, 40)


def test_invalid_exif_data_is_ignored() -> None:
    assert same(open_image(encode(slope(), "PNG", exif=b"Exif\0\0not at all"), "display"), slope())


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])  # modes I;16, I;16 and I
def test_sixteen_bit_grey_keeps_its_brightness_for_display(format: str) -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    file = encode(Image.fromarray(ramp), format)
    assert abs(np.asarray(open_image(file, "display")).mean() - 127.5) < 0.5  # less than one of 256 levels
    plain = Image.open(io.BytesIO(file)).convert("RGB")
    assert same(open_image(file, "training"), plain)


@pytest.mark.parametrize("name", ["rgba.png", "grey and alpha.png", "palette with alpha.png", "rgba.webp"])
def test_transparent_pixels_are_white_for_display(name: str) -> None:
    alpha = np.asarray(Image.open(io.BytesIO(FILES[name])).convert("RGBA"))[..., 3]
    assert (alpha == 0).any()
    assert (np.asarray(open_image(FILES[name], "display"))[alpha == 0] == 255).all()


@pytest.mark.parametrize(("format", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
@pytest.mark.parametrize("decoding", ["display", "training"])
def test_the_first_frame_of_an_animation_is_decoded(decoding: Decoding, format: str, options: dict[str, Any]) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    file = encode(frames[0], format, save_all=True, append_images=frames[1:], **options)
    assert same(open_image(file, decoding), frames[0])


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_recognized_by_content_not_by_name(format: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.eps"
    path.write_bytes(encode(slope(), format))
    difference = np.asarray(open_image(path, "display"), int) - np.asarray(slope(), int)
    assert np.abs(difference).mean() < 12  # of 255: JPEG, AVIF and a GIF's palette lose something


def test_a_jpeg_with_several_images_opens() -> None:
    file = encode(slope(), "MPO", save_all=True, append_images=[slope()])
    assert open_image(file, "display").size == (40, 24)


@pytest.mark.parametrize("decoding", ["display", "training"])
def test_no_warning_of_pillow_escapes(decoding: Decoding) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        open_image(FILES["palette with alpha.png"], decoding)
        assert "pixels" in refusal(b"P6 12000 12000 255\n").problem  # Pillow would warn of a bomb


def test_opening_images_in_many_threads_leaves_warning_filters_alone() -> None:
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: open_image(FILES["cmyk.jpg"], "display"), range(200)))
    assert list(warnings.filters) == before


# Refusals


def test_a_refusal_names_the_file_and_gives_advice(tmp_path: Path) -> None:
    pixels = encode(slope(), "PNG")
    for name, content, problem in (
        ("empty.png", b"", "empty"),
        ("page.jpg", b"<!doctype html><title>404</title>", "not an image in a supported format"),
        ("drawing.png", b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image in a supported format"),
        ("paper.png", b"%PDF-1.7\n", "not an image in a supported format"),
        ("photo.jpg", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "HEIC"),
        ("photo.heif", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic" + bytes(64), "HEIC"),
        ("half.png", pixels[: len(pixels) // 2], "incomplete"),
        ("half.jpg", encode(slope(), "JPEG")[:700], "incomplete"),
        ("float.tif", encode(Image.new("F", (4, 4)), "TIFF"), "floating-point"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        for source, called in ((path, str(path)), (content, "image")):
            error = refusal(source)
            assert error.problem.startswith(called)
            assert problem in error.problem
            assert error.advice.endswith(".")


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).problem == f"{tmp_path}: a folder, not an image"
    assert refusal(tmp_path / "none.png").problem == f"{tmp_path / 'none.png'}: no such file"
    assert "too long" in refusal(tmp_path / ("x" * 300)).problem  # from the file system
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    assert "not a regular file" in refusal(tmp_path / "pipe").problem


@given(st.sampled_from(sorted(FILES)), st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_an_image_or_an_image_error(name: str, data: st.DataObject) -> None:
    file = bytearray(FILES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(0, len(file) - 1))] = data.draw(st.integers(0, 255))
    del file[data.draw(st.integers(1, len(file))) :]
    try:
        outcome = open_image(bytes(file), "display").mode
    except ImageError as error:
        outcome = str(error)
    assert outcome == "RGB" or len(outcome.splitlines()) == 2
    assert " object at " not in outcome


# Memory and other programs: measured in a process of its own


def run_child(program: str, *arguments: str) -> str:
    """What `program` prints; started by a shell that forks, or Linux would count the tests' memory as its own."""
    command = ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout


MEMORY = """
import io, resource, sys
from pathlib import Path
from PIL import Image
from mlx_llava.config import ImageConfig
from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import FORMATS, crop, open_image

def peak():  # in MB; ru_maxrss counts bytes on macOS and KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6

for format in FORMATS:  # everything Pillow loads once
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, format)
    open_image(file.getvalue(), "display")
before = peak()
"""

REFUSE = """
for path in map(Path, sys.argv[1:]):
    try:
        open_image(path, "display")
    except ImageError:
        print(f"{path.name}: {peak() - before:.0f}", flush=True)
"""


def bombs() -> dict[str, bytes]:
    zeros = zlib.compress(bytes(60_000_000), 1)
    still = Image.new("RGB", (16, 16))
    webp = bytearray(encode(still, "WEBP", save_all=True, append_images=[Image.new("RGB", (16, 16), "red")]))
    webp[24:30] = (16_382).to_bytes(3, "little") + (8_000).to_bytes(3, "little")  # the canvas, less one
    gif = bytearray(encode(still, "GIF"))
    gif[6:10] = struct.pack("<HH", 60_000, 60_000)  # the canvas
    bmp = bytearray(encode(still, "BMP"))
    bmp[18:26] = struct.pack("<ii", 9_000, 9_000)
    return {
        "pixels.png": one_bit_png(9_000, 9_000, chunk(b"IDAT", zlib.compress(bytes(9_000 * 1_126), 1))),
        "edge.png": one_bit_png(16_385, 1, chunk(b"IDAT", zlib.compress(bytes(2_050)))),
        "text.png": one_bit_png(1, 1, chunk(b"zTXt", b"key\0\0" + zeros), chunk(b"IDAT", zlib.compress(bytes(2)))),
        "late text.png": one_bit_png(1, 1, chunk(b"IDAT", zlib.compress(bytes(2))), chunk(b"zTXt", b"key\0\0" + zeros)),
        "profile.png": one_bit_png(1, 1, chunk(b"iCCP", b"key\0\0" + zeros), chunk(b"IDAT", zlib.compress(bytes(2)))),
        "canvas.gif": bytes(gif),
        "canvas.webp": bytes(webp),
        "pixels.bmp": bytes(bmp),
        "pixels.ppm": b"P6 30000 30000 255\n",
    }


def test_bombs_are_refused_before_they_take_memory(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in (*bombs(), "bytes.png")]
    for path, content in zip(paths, bombs().values(), strict=False):
        path.write_bytes(content)
    with paths[-1].open("wb") as file:
        file.truncate(64_000_001)  # takes no room on the disk
    growth = dict(line.split(": ") for line in run_child(MEMORY + REFUSE, *map(str, paths)).splitlines())
    assert set(growth) == {path.name for path in paths}  # each was refused
    assert max(map(int, growth.values())) < 50  # MB


@pytest.mark.parametrize("size", [(1, 4_000), (4_000, 1), (4_000, 4_000)])
def test_padding_takes_little_memory(size: tuple[int, int]) -> None:
    program = f'crop(Image.new("RGB", {size}), ImageConfig(fit="pad"))\nprint(peak())'
    assert float(run_child(MEMORY + program)) < 300  # MB, Python and all libraries included


def test_a_postscript_file_named_png_starts_no_program(tmp_path: Path) -> None:
    drawing = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "drawing.png").write_bytes(drawing)
    watch = """
import sys
from pathlib import Path
from PIL import Image
from mlx_llava.images.pixels import open_image

STARTS = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system")
started = []
sys.addaudithook(lambda event, arguments: started.append(event) if event in STARTS else None)
for program in (lambda path: open_image(path, "display"), lambda path: Image.open(path).load()):
    started.clear()
    try:
        outcome = program(Path(sys.argv[1]))
    except Exception as error:
        outcome = error
    print(type(outcome).__name__, bool(started))  # where Ghostscript is installed, Pillow gets an image
"""
    ours, pillow = run_child(watch, str(tmp_path / "drawing.png")).splitlines()
    assert ours == "ImageError False"
    assert pillow.endswith("True")  # the hook sees what Pillow alone would do
