"""Images as cells of text: two pixels per cell, or Braille dots without colors.

Also the overlays on an image: the grid of patches, and a heat map with one weight per patch.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.color import Color
from rich.segment import Segment
from rich.style import Style

Pixels = NDArray[np.uint8]  # [height, width, 3]

LUMA = np.array([0.299, 0.587, 0.114])  # Rec. 601
# bit of each dot of a Braille cell, U+2800, in rows of two
DOTS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
# ordered dithering by 4 x 4 pixels: Bayer 1973
BAYER = (np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]]) + 0.5) / 16
# matplotlib's viridis at nine points: perceptually uniform, also for color-blind eyes
VIRIDIS = np.array(
    [
        [68, 71, 59, 44, 33, 40, 94, 173, 253],
        [1, 45, 82, 114, 145, 174, 201, 220, 231],
        [84, 123, 139, 142, 140, 128, 98, 48, 37],
    ]
).T


class Box(NamedTuple):
    """The position of an image: in columns, and in lines of pixels, two per row of text."""

    left: int
    top: int
    width: int
    height: int


def fit_cells(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """The most columns and rows that an image can fill with its shape preserved."""
    box = center(size, columns, rows)
    return box.width, (box.height + 1) // 2


def center(size: tuple[int, int], columns: int, rows: int) -> Box:
    """The largest centered box in `columns` x `rows` cells, twice as high as wide, with the shape of an image."""
    width, height = max(size[0], 1), max(size[1], 1)
    scale = min(columns / width, 2 * rows / height)
    wide = min(max(round(width * scale), 1), max(columns, 1))
    high = min(max(round(height * scale), 1), max(2 * rows, 1))
    return Box((max(columns, 1) - wide) // 2, (max(2 * rows, 1) - high) // 2, wide, high)


def resize(image: Image.Image, columns: int, rows: int) -> Pixels:
    """The image as pixels that fill `columns` x `rows` cells, two per cell."""
    image = image if image.mode == "RGB" else image.convert("RGB")
    width, height = max(columns, 1), max(2 * rows, 1)
    smaller = width <= image.width and height <= image.height
    filter = Image.Resampling.HAMMING if smaller else Image.Resampling.BOX  # an enlarged pixel stays a square
    return np.asarray(image.resize((width, height), filter, reducing_gap=2.0), np.uint8)


def half_blocks(pixels: Pixels) -> list[list[Segment]]:
    """Pixels as lines of text; neighboring cells of the same colors share a segment."""
    return [_runs(line) for line in np.concatenate([pixels[0::2], pixels[1::2]], -1)]


def braille(pixels: Pixels, on_light: bool) -> list[list[Segment]]:
    """Pixels as lines of Braille without colors, 2 x 4 per cell; dots are bright pixels, or dark ones `on_light`."""
    brightness = _brightness(255 - pixels if on_light else pixels)
    rows, columns = brightness.shape[0] // 4, brightness.shape[1] // 2
    threshold = np.tile(BAYER, (rows, (columns + 1) // 2))[:, : 2 * columns]
    dots = (brightness > threshold).reshape(rows, 4, columns, 2)
    codes = 0x2800 + (dots * DOTS[:, None]).sum((1, 3))
    return [[Segment("".join(map(chr, line)))] for line in codes.tolist()]


def draw_grid(pixels: Pixels, side: int) -> Pixels:
    """The image with lines between its side x side patches, or a chequered tint if lines would hide it.

    Bright pixels are darkened, dark ones brightened.
    """
    down, across = _patches(len(pixels), side), _patches(pixels.shape[1], side)
    if min(len(pixels), pixels.shape[1]) >= 4 * side:
        mask, strength = _starts(down)[:, None] | _starts(across), 0.35
    else:
        mask, strength = (down[:, None] + across) % 2 == 1, 0.17
    color = np.where(pixels @ LUMA > 128, 0, 255)[..., None]
    return _blend(pixels, color, strength * mask)


def draw_heat(pixels: Pixels, weights: NDArray[np.floating]) -> Pixels:
    """The image lit by patch weights [side, side] from 0 to 1."""
    light = np.clip(np.nan_to_num(_per_pixel(weights, *pixels.shape[:2])), 0, 1)
    dim = (pixels + (pixels @ LUMA)[..., None]) / 2 * 0.4
    lit = _blend(pixels, viridis(light), np.full(light.shape, 0.4))
    return _blend(dim, lit, light)


def viridis(weights: NDArray[np.floating]) -> NDArray[np.floating]:
    """The colors [..., 3] of weights from 0 to 1."""
    points = np.linspace(0, 1, len(VIRIDIS))
    return np.stack([np.interp(weights, points, VIRIDIS[:, channel]) for channel in range(3)], -1)


def patch_at(column: float, line: float, box: Box, side: int) -> tuple[int, int] | None:
    """Row and column of the patch at a column and line of pixels; None outside the image."""
    x, y = (column - box.left) / box.width, (line - box.top) / box.height
    return (int(y * side), int(x * side)) if 0 <= x < 1 and 0 <= y < 1 else None


def _brightness(pixels: Pixels) -> NDArray[np.floating]:
    """Brightness without colors, from 0 to 1: stretched luma, plus edges between equally bright colors."""
    luma = pixels @ LUMA / 255
    edges = np.zeros_like(luma)
    for axis in (0, 1):
        change = np.abs(np.diff(pixels.astype(np.float64), axis=axis, prepend=pixels.take([0], axis))).max(-1) / 255
        edges += np.maximum(change - np.abs(np.diff(luma, axis=axis, prepend=luma.take([0], axis))), 0)
    low, high = np.percentile(luma, (2, 98))
    luma = (luma - low) / (high - low) if high - low > 0.1 else luma
    return np.clip(luma + np.where(luma < 0.5, edges, -edges), 0, 1)


def _runs(line: NDArray[np.uint8]) -> list[Segment]:
    """The segments of a line of cells [columns, 6]: the color of the upper pixel, then of the lower."""
    starts = [0, *(np.flatnonzero((line[1:] != line[:-1]).any(-1)) + 1).tolist()]
    cells = line[starts].tolist()
    return [
        Segment((" " if cell[:3] == cell[3:] else "▀") * (end - start), _style(tuple(cell)))
        for cell, start, end in zip(cells, starts, [*starts[1:], len(line)], strict=True)
    ]


@lru_cache(maxsize=1 << 16)
def _style(cell: tuple[int, ...]) -> Style:
    return Style.from_color(Color.from_rgb(*cell[:3]), Color.from_rgb(*cell[3:]))


def _patches(pixels: int, side: int) -> NDArray[np.intp]:
    """The patch that each row or column of pixels belongs to."""
    return np.arange(pixels) * side // pixels


def _starts(patches: NDArray[np.intp]) -> NDArray[np.bool_]:
    """True at the first row or column of each patch but the first."""
    return np.diff(patches, prepend=patches[:1]) > 0


def _per_pixel(weights: NDArray[np.floating], height: int, width: int) -> NDArray[np.floating]:
    """The weight of each pixel: the largest of its patches."""
    down = np.maximum.reduceat(weights, _patches(height, len(weights)), axis=0)
    return np.maximum.reduceat(down, _patches(width, weights.shape[1]), axis=1)


def _blend(pixels: NDArray, over: NDArray, share: NDArray) -> Pixels:
    """Blend `share` [height, width] of `over` into pixels."""
    share = share[..., None]
    return np.rint(pixels * (1 - share) + over * share).astype(np.uint8)
