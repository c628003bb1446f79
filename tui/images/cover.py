"""A part of a picture covered, to see what an answer owes to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlx_llava.engine.messages import Fit
from mlx_llava.tui.images.attachments import Attachment, attachment

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Patches:
    """A rectangle of patches: of `side` along each edge, these rows and columns, the ends left out."""

    side: int
    top: int
    left: int
    bottom: int
    right: int

    @classmethod
    def between(cls, side: int, corner: tuple[int, int], other: tuple[int, int]) -> "Patches":
        """The rectangle between two patches, each a row and a column."""
        rows, columns = zip(corner, other, strict=True)
        return cls(side, min(rows), min(columns), max(rows) + 1, max(columns) + 1)

    def moved(self, down: int, right: int) -> "Patches":
        """The same, somewhere else in the picture, as far as it reaches."""
        down = min(max(down, -self.top), self.side - self.bottom)
        right = min(max(right, -self.left), self.side - self.right)
        return replace(
            self, top=self.top + down, bottom=self.bottom + down, left=self.left + right, right=self.right + right
        )

    def grown(self, down: int, right: int) -> "Patches":
        """The same with more rows and columns at its end, or fewer; one is the least."""
        return replace(
            self,
            bottom=min(max(self.bottom + down, self.top + 1), self.side),
            right=min(max(self.right + right, self.left + 1), self.side),
        )

    def box(self, size: tuple[int, int], fit: Fit) -> tuple[int, int, int, int]:
        """Left, top, right and bottom in the pixels of a picture of this width and height, the ends left out.

        The square that the patches divide is the picture padded to its longer side, or its middle.
        """
        edge = max(size) if fit == "pad" else min(size)
        starts = [(length - edge) / 2 for length in size]  # of the square, from the picture's corner
        fractions = [(self.left, 0), (self.top, 1), (self.right, 0), (self.bottom, 1)]
        ends = [round(starts[axis] + edge * patch / self.side) for patch, axis in fractions]
        width, height = size
        return min(max(ends[0], 0), width), min(max(ends[1], 0), height), min(ends[2], width), min(ends[3], height)


def covered(image: Attachment, box: tuple[int, int, int, int], color: tuple[int, int, int]) -> Attachment:
    """The picture with a box of one colour in it, as a picture of its own."""
    from io import BytesIO

    from mlx_llava.images.pixels import open_image

    pil_image = open_image(image.file.data, "display")
    fill(pil_image, box, color)
    file = BytesIO()
    pil_image.save(file, "PNG")
    return attachment(file.getvalue(), f"{image.name}, covered")


def fill(pil_image: "Image.Image", box: tuple[int, int, int, int], color: tuple[int, int, int]) -> None:
    """Draw a box, whose right and bottom ends are left out."""
    left, top, right, bottom = box
    if right > left and bottom > top:
        pil_image.paste(color, (left, top, right, bottom))


def neutral(mean: Sequence[float]) -> tuple[int, int, int]:
    """The colour that the tower sees as nothing: the mean of its training pictures."""
    red, green, blue = (round(255 * value) for value in mean)
    return red, green, blue
