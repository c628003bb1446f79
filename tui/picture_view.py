"""A picture on the screen."""

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


class PictureView(Widget):
    """Shows a picture in half blocks, as large as it fits."""

    def __init__(self, image: "Image.Image", max_columns: int = 0, max_rows: int = 0) -> None:
        """Show `image`; in at most so many columns and rows, or in all the room there is."""
        super().__init__()
        self.image = image
        self.most = (max_columns, max_rows)
        self.patches = 0
        self.weights: NDArray[np.floating] | None = None
        self._drawn: tuple[tuple[int, int], list[Strip]] | None = None

    def show(self, image: "Image.Image", patches: int = 0, weights: "NDArray[np.floating] | None" = None) -> None:
        """Show another picture.

        Args:
            patches: along each edge, with lines between them; none without.
            weights: `[side, side]` from 0 to 1, how bright each patch is; all are as they are without.
        """
        self.image, self.patches, self.weights, self._drawn = image, patches, weights, None
        self.refresh(layout=True)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """Columns that the picture takes."""
        return self._fitted(container.width, viewport.height)[0]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Rows that the picture takes in `width` columns."""
        return self._fitted(width, viewport.height)[1]

    def _fitted(self, columns: int, rows: int) -> tuple[int, int]:
        from mlx_llava.tui.blocks import fitted

        columns, rows = (min(have, most or have) for have, most in zip((columns, rows), self.most, strict=True))
        return fitted(self.image.size, max(columns, 1), max(rows, 1))

    def patch_at(self, x: int, y: int, side: int) -> tuple[int, int] | None:
        """Row and column of the patch in a cell, of side x side; None beside the picture."""
        from mlx_llava.tui.blocks import Box, patch_at

        columns, rows = self._fitted(self.size.width, self.size.height)
        box = Box((self.size.width - columns) // 2, (self.size.height - rows) // 2 * 2, columns, 2 * rows)
        return patch_at(x + 0.5, 2 * y + 1, box, side)

    def render_line(self, y: int) -> Strip:
        """One row of the picture."""
        lines = self._lines(self.size.width, self.size.height)
        strip = lines[y] if y < len(lines) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)

    def _lines(self, width: int, height: int) -> list[Strip]:
        from mlx_llava.tui.blocks import grid, heat, lines, sized

        if self._drawn is None or self._drawn[0] != (width, height):
            columns, rows = self._fitted(width, height)
            left, top = (width - columns) // 2, (height - rows) // 2
            margin = Segment(" " * left)
            pixels = sized(self.image, columns, rows)
            pixels = pixels if self.weights is None else heat(pixels, self.weights)
            drawn = lines(grid(pixels, self.patches) if self.patches else pixels)
            strips = [Strip([margin, *line]).adjust_cell_length(width) for line in drawn]
            self._drawn = ((width, height), [Strip.blank(width)] * top + strips)
        return self._drawn[1]
