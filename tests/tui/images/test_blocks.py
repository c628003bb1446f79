"""Images as text: the right size and colours, with overlays in the right place."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.segment import Segment

from mlx_llava.tui.images.blocks import (
    Box,
    braille,
    center,
    draw_grid,
    draw_heat,
    fit_cells,
    half_blocks,
    patch_at,
    resize,
    viridis,
)

edges = st.integers(1, 5000)
cells = st.integers(1, 120)


def flat(colour: tuple[int, int, int], width: int = 8, height: int = 8) -> Image.Image:
    return Image.new("RGB", (width, height), colour)


def blocks(image: Image.Image, columns: int, rows: int) -> list[list[Segment]]:
    return half_blocks(resize(image, columns, rows))


def text(shown: list[list[Segment]]) -> list[str]:
    return ["".join(segment.text for segment in line) for line in shown]


def colours_of(segment: Segment) -> tuple[object, object]:
    assert segment.style
    assert segment.style.color
    assert segment.style.bgcolor
    fore, back = segment.style.color, segment.style.bgcolor
    return (fore.triplet and tuple(fore.triplet)) or fore.number, (back.triplet and tuple(back.triplet)) or back.number


@given(edges, edges, cells, cells)
def test_an_image_fills_one_direction_and_keeps_its_shape(width: int, height: int, columns: int, rows: int) -> None:
    box = center((width, height), columns, rows)
    assert box.left >= 0 <= box.top
    assert box.left + box.width <= columns
    assert box.top + box.height <= 2 * rows
    assert box.width == columns or box.height == 2 * rows
    scale = min(columns / width, 2 * rows / height)
    assert abs(box.width - width * scale) <= 0.5 or box.width == 1
    assert abs(box.height - height * scale) <= 0.5 or box.height == 1
    assert fit_cells((width, height), columns, rows) == (box.width, -(-box.height // 2))


@given(cells, cells, st.booleans())
def test_blocks_and_braille_fill_their_cells_exactly(columns: int, rows: int, on_light: bool) -> None:
    image = Image.linear_gradient("L").convert("RGB").resize((30, 20))
    assert [len(line) for line in text(blocks(image, columns, rows))] == [columns] * rows
    shown = braille(resize(image, 2 * columns, 2 * rows), on_light)
    assert [len(line) for line in text(shown)] == [columns] * rows
    assert all(segment.style is None for line in shown for segment in line)


def test_a_cell_shows_two_pixels() -> None:
    image = flat((255, 0, 0), 2, 2)
    image.putpixel((0, 1), (0, 0, 255))
    (first, second), *rest = blocks(image, 2, 1)
    assert not rest
    assert (first.text, colours_of(first)) == ("▀", ((255, 0, 0), (0, 0, 255)))
    assert (second.text, colours_of(second)) == (" ", ((255, 0, 0), (255, 0, 0)))


def test_neighbours_of_one_colour_are_one_segment() -> None:
    assert [[(s.text, colours_of(s)[0]) for s in line] for line in blocks(flat((1, 2, 3)), 40, 2)] == [
        [(" " * 40, (1, 2, 3))]
    ] * 2


def test_braille_draws_bright_pixels_or_dark_ones_on_light() -> None:
    image = flat((0, 0, 0), 4, 4)
    image.paste((255, 255, 255), (2, 0, 4, 4))
    assert text(braille(resize(image, 4, 2), on_light=False)) == ["⠀⣿"]
    assert text(braille(resize(image, 4, 2), on_light=True)) == ["⣿⠀"]


def test_brightness_becomes_a_share_of_dots() -> None:
    for level in (0, 64, 128, 192, 255):
        (line,) = text(braille(resize(flat((level, level, level), 64, 64), 32, 2), on_light=False))
        dots = sum((ord(c) - 0x2800).bit_count() for c in line)
        assert dots / (8 * 16) == pytest.approx(level / 255, abs=1 / 16)


@pytest.mark.parametrize("pixels", [96, 48, 24, 10])
def test_the_grid_is_visible_at_every_size(pixels: int) -> None:
    plain = np.full((pixels, pixels, 3), 100, np.uint8)
    drawn = draw_grid(plain, 24)
    assert (drawn != plain).any()
    assert (drawn == plain).any()
    assert (plain == 100).all()
    if pixels == 96:
        assert [int(n) for n in np.flatnonzero(drawn[1, :, 0] != 100)] == list(range(4, 96, 4))


@given(st.integers(0, 23), st.integers(0, 23), st.integers(6, 120), st.integers(6, 120))
def test_a_heavy_patch_is_lit_in_its_place(row: int, column: int, height: int, width: int) -> None:
    weights = np.zeros((24, 24))
    weights[row, column] = 1
    pixels = np.full((height, width, 3), 200, np.uint8)
    shown = draw_heat(pixels, weights)
    lit = np.argwhere((shown != draw_heat(pixels, np.zeros((24, 24)))).any(-1))
    assert len(lit)  # also if a pixel shows several patches
    for y, x in lit:
        assert row in range(y * 24 // height, max((y + 1) * 24 // height, y * 24 // height + 1))
        assert column in range(x * 24 // width, max((x + 1) * 24 // width, x * 24 // width + 1))


def test_heat_runs_from_dark_to_bright_and_tolerates_bad_numbers() -> None:
    pixels = np.full((24, 24, 3), 128, np.uint8)
    weights = np.zeros((24, 24))
    weights[0, :5] = [0.5, 1, 7, np.nan, -1]
    bright = draw_heat(pixels, weights)[0, :6].sum(-1)
    assert bright[5] == bright[3] == bright[4] < bright[0] < bright[1] == bright[2]
    scale = viridis(np.linspace(0, 1, 50)) @ [0.299, 0.587, 0.114]
    assert (np.diff(scale) > 0).all()


def test_a_position_on_the_screen_is_a_patch() -> None:
    box = center((100, 100), 80, 24)
    assert box == Box(16, 0, 48, 48)
    assert patch_at(16, 0, box, 24) == (0, 0)
    assert patch_at(16 + 47.9, 47.9, box, 24) == (23, 23)
    assert patch_at(15, 0, box, 24) is patch_at(64, 0, box, 24) is patch_at(20, 48, box, 24) is None


def test_images_of_any_mode_are_shown() -> None:
    for mode in ("1", "L", "P", "RGBA", "CMYK"):
        assert len(text(blocks(Image.new(mode, (5, 5)), 3, 2))) == 2
