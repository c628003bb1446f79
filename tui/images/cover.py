"""Cover a part of an image, to see how the answer depends on it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from typing import TYPE_CHECKING

from mlx_llava.config import Fit
from mlx_llava.tui.images.attachments import Attachment, from_bytes

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Patches:
    """A rectangle in a grid of side x side patches; `bottom` and `right` are exclusive."""

    side: int
    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def between(cls, side: int, corner: tuple[int, int], other: tuple[int, int]) -> "Patches":
        """The rectangle spanned by two patches, each given as row and column."""
        rows, columns = zip(corner, other, strict=True)
        return cls(side, min(rows), min(columns), max(rows) + 1, max(columns) + 1)

    def moved(self, down: int, right: int) -> "Patches":
        """The rectangle moved, but not beyond the image."""
        down = min(max(down, -self.top), self.side - self.bottom)
        right = min(max(right, -self.left), self.side - self.right)
        return replace(
            self, top=self.top + down, bottom=self.bottom + down, left=self.left + right, right=self.right + right
        )

    def grown(self, down: int, right: int) -> "Patches":
        """The rectangle with its bottom and right moved; it stays in the image and keeps at least one patch."""
        return replace(
            self,
            bottom=min(max(self.bottom + down, self.top + 1), self.side),
            right=min(max(self.right + right, self.left + 1), self.side),
        )

    def box(self, size: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in pixels of an image of this size; right and bottom are exclusive.

        The patches divide a square: the image padded to its longer side, or its central crop.
        """
        edge = max(size) if fit == "pad" else min(size)
        starts = [(length - edge) / 2 for length in size]  # of the square, relative to the image
        fractions = [(self.left, 0), (self.top, 1), (self.right, 0), (self.bottom, 1)]
        ends = [round(starts[axis] + edge * patch / self.side) for patch, axis in fractions]
        width, height = size
        return min(max(ends[0], 0), width), min(max(ends[1], 0), height), min(ends[2], width), min(ends[3], height)


def cover_box(image: Attachment, box: tuple[int, int, int, int], color: tuple[int, int, int]) -> Attachment:
    """A new image with a box of one color."""
    from mlx_llava.images.pixels import open_image

    pil_image = open_image(image.file.data, "display")
    fill(pil_image, box, color)
    file = BytesIO()
    pil_image.save(file, "PNG")
    return from_bytes(file.getvalue(), f"{image.name}, covered")


def fill(pil_image: "Image.Image", box: tuple[int, int, int, int], color: tuple[int, int, int]) -> None:
    """Draw a box; right and bottom are exclusive."""
    left, top, right, bottom = box
    if right > left and bottom > top:
        pil_image.paste(color, (left, top, right, bottom))


def mean_color(mean: Sequence[float]) -> tuple[int, int, int]:
    """The mean color of the tower's training images, which normalizes to about zero."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
