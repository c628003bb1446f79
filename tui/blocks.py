"""STUB, to be replaced whole: what picture_view.py calls."""

from PIL import Image
from rich.segment import Segment
from rich.style import Style


def fitted(size: tuple[int, int], columns: int, rows: int) -> tuple[int, int]:
    """Columns and rows that a picture takes, its shape kept."""
    width, height = size
    scale = min(columns / width, 2 * rows / height)
    return max(round(width * scale), 1), max(round(height * scale / 2), 1)


def half_blocks(image: Image.Image, columns: int, rows: int) -> list[list[Segment]]:
    """Lines of half blocks that show a picture in `columns` by `rows` cells."""
    pixels = image.convert("RGB").resize((columns, 2 * rows), Image.Resampling.LANCZOS).load()
    return [
        [
            Segment("▀", Style.parse("#%02x%02x%02x on #%02x%02x%02x" % (*pixels[x, 2 * y], *pixels[x, 2 * y + 1])))
            for x in range(columns)
        ]
        for y in range(rows)
    ]
