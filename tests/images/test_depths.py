"""Transparency, depths and modes: what of them is shown."""

import io
import struct
import zlib

import numpy as np
import pytest
from image_files import chunk, encode, png, tiff, u16
from PIL import Image

from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import open_image, to_rgb


def rows(image: Image.Image) -> list[list[list[int]]]:
    return np.asarray(image).tolist()


PALETTE = chunk(b"PLTE", bytes([10, 20, 30, 40, 50, 60]))
# Two pixels: the first is of the transparent color, the second is not; name: bits, color type, row, tRNS, second pixel
KEYS: dict[str, tuple[int, int, bytes, bytes, list[int]]] = {
    "gray 1, white": (1, 0, b"\x80", u16(1), [0, 0, 0]),
    "gray 1, black": (1, 0, b"\x40", u16(0), [255, 255, 255]),
    "gray 2": (2, 0, b"\x60", u16(1), [170, 170, 170]),
    "gray 4": (4, 0, b"\x5a", u16(5), [170, 170, 170]),
    "gray 8": (8, 0, b"\x64\xc8", u16(100), [200, 200, 200]),
    "gray 16, black": (16, 0, u16(0, 30_000), u16(0), [117, 117, 117]),
    "gray 16, one of 65536": (16, 0, u16(1000, 1001), u16(1000), [3, 3, 3]),
    "color 8": (8, 2, bytes([1, 2, 3, 4, 5, 6]), u16(1, 2, 3), [4, 5, 6]),
    "color 16, black": (16, 2, u16(0, 0, 0, 40_000, 100, 100), u16(0, 0, 0), [156, 0, 0]),
    "color 16": (16, 2, u16(1000, 2000, 3000, 40_000, 100, 100), u16(1000, 2000, 3000), [156, 0, 0]),
    "color 16, dark": (16, 2, u16(1, 2, 3, 40_000, 100, 100), u16(1, 2, 3), [156, 0, 0]),
    "palette 1": (1, 3, b"\x40", b"\0", [40, 50, 60]),
    "palette 8": (8, 3, b"\0\1", b"\0\xff", [40, 50, 60]),
}


@pytest.mark.parametrize("name", KEYS)
def test_the_transparent_color_of_a_png_is_white_for_display_at_every_depth(name: str) -> None:
    bits, kind, row, key, other = KEYS[name]
    header = struct.pack(">IIBBBBB", 2, 1, bits, kind, 0, 0, 0)
    file = png(header, *[PALETTE] * (kind == 3), chunk(b"tRNS", key), chunk(b"IDAT", zlib.compress(b"\0" + row)))
    assert rows(open_image(file, "display")) == [[[255, 255, 255], other]]
    given = Image.open(io.BytesIO(file))
    before = dict(given.info)
    assert rows(to_rgb(given, "display")) == [[[255, 255, 255], other]]
    assert given.info == before
    assert rows(open_image(file, "training")) == rows(Image.open(io.BytesIO(file)).convert("RGB"))


@pytest.mark.parametrize("mode", ["PA", "LA", "La", "RGBA", "RGBa", "CMYK"])  # no ink is white too
def test_zeros_are_white_in_modes_with_transparency(mode: str) -> None:
    assert rows(to_rgb(Image.new(mode, (1, 1)), "display")) == [[[255, 255, 255]]]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBX", "HSV", "I;16", "I;16B", "I;16L", "I;16N"])
def test_zeros_are_black_in_modes_without(mode: str) -> None:
    assert rows(to_rgb(Image.new(mode, (1, 1)), "display")) == [[[0, 0, 0]]]


def test_the_transparent_color_of_a_gif_is_white_for_display() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 0, 0])
    image.putpixel((1, 0), 1)
    file = encode(image, "GIF", transparency=0)
    assert rows(open_image(file, "display")) == [[[255, 255, 255], [200, 0, 0]]]


def test_a_tiff_says_how_many_bits_there_are_and_which_end_is_white() -> None:
    sixteen = struct.pack("<2H", 0, 65_535)
    for file, levels in (
        (tiff(16, 1, sixteen, 2), [0, 255]),
        (tiff(16, 0, sixteen, 2), [255, 0]),
        (tiff(12, 1, b"\x00\x0f\xff", 2), [0, 255]),
    ):
        assert np.asarray(open_image(file, "display"))[0, :, 0].tolist() == levels


@pytest.mark.parametrize(("mode", "what"), [("I", "integers of unknown range"), ("F", "floating-point numbers")])
def test_values_of_no_known_range_are_refused(mode: str, what: str) -> None:
    image = Image.linear_gradient("L").convert(mode)
    with pytest.raises(ImageError, match=what):
        open_image(encode(image, "TIFF"), "display")
    with pytest.raises(ImageError, match=rf"^ramp: its pixels are {what}"):
        to_rgb(image, "display", "ramp")
