"""An image as lines of terminal text: each cell is a `▀` whose color is the upper pixel, on the lower pixel."""

import numpy as np
from PIL import Image

RESET = "\x1b[0m"


def thumbnail(image: Image.Image, columns: int) -> list[str]:
    """A square image as `columns` x `columns / 2` cells of 24-bit color; `columns` is even."""
    pixels = np.asarray(image.resize((columns, columns), Image.Resampling.BOX))
    return ["".join(map(_cell, upper, lower)) + RESET for upper, lower in zip(pixels[::2], pixels[1::2], strict=True)]


def _cell(upper: np.ndarray, lower: np.ndarray) -> str:
    above, below = (";".join(map(str, color)) for color in (upper, lower))
    return f"\x1b[38;2;{above}m\x1b[48;2;{below}m▀"
