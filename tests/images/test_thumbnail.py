"""Images as lines of terminal text."""

from PIL import Image

from mlx_llava.images.thumbnail import thumbnail


def test_a_cell_shows_the_pixel_above_in_front_and_the_one_below_behind() -> None:
    image = Image.new("RGB", (2, 2))
    image.putdata([(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 8, 7)])
    assert thumbnail(image, 2) == ["\x1b[38;2;255;0;0m\x1b[48;2;0;0;255m▀\x1b[38;2;0;255;0m\x1b[48;2;9;8;7m▀\x1b[0m"]


def test_a_larger_image_is_averaged_into_its_cells() -> None:
    image = Image.new("RGB", (96, 96), (10, 20, 30))
    lines = thumbnail(image, 32)
    assert len(lines) == 16
    assert {line.count("▀") for line in lines} == {32}
    assert "38;2;10;20;30" in lines[0]
