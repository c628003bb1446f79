"""An image on the screen."""

import os
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from mlx_llava.tui.window import window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from mlx_llava.tui.images.blocks import Pixels
    from mlx_llava.tui.images.kitty import Kitty

FINE = 768  # pixels along the longer edge under a grid or heat map: 32 for each of 24 patches


class ImageView(Widget):
    """Shows an image as large as it fits."""

    def __init__(self, image: "Image.Image", max_columns: int = 0, max_rows: int = 0) -> None:
        """Show an image; 0 columns or rows means no limit."""
        super().__init__()
        self.image = image
        self.most = (max_columns, max_rows)
        self.patches = 0
        self.weights: NDArray[np.floating] | None = None
        self._cache: tuple[tuple[int, int, Kitty | None], list[Strip]] | None = None
        self._transmitted: tuple[Kitty, int] | None = None

    def show(self, image: "Image.Image", patches: int = 0, weights: "NDArray[np.floating] | None" = None) -> None:
        """Show another image.

        Args:
            patches: number along each edge, with lines between them; 0 draws none.
            weights: `[side, side]` from 0 to 1, the brightness of each patch.
        """
        self.image, self.patches, self.weights, self._cache = image, patches, weights, None
        self.refresh(layout=True)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        return self._fitted(container.width, viewport.height)[0]

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Return the rows that the image takes in `width` columns."""
        return self._fitted(width, viewport.height)[1]

    def _fitted(self, columns: int, rows: int) -> tuple[int, int]:
        from mlx_llava.tui.images.blocks import fit_cells

        columns, rows = (min(space, most or space) for space, most in zip((columns, rows), self.most, strict=True))
        return fit_cells(self.image.size, max(columns, 1), max(rows, 1))

    def patch_at(self, x: int, y: int, side: int) -> tuple[int, int] | None:
        """Return row and column of the patch under a cell; None outside the image."""
        from mlx_llava.tui.images.blocks import Box, patch_at

        columns, rows = self._fitted(self.size.width, self.size.height)
        box = Box((self.size.width - columns) // 2, (self.size.height - rows) // 2 * 2, columns, 2 * rows)
        return patch_at(x + 0.5, 2 * y + 1, box, side)

    def render_line(self, y: int) -> Strip:
        lines = self._lines(self.size.width, self.size.height)
        strip = lines[y] if y < len(lines) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)

    def on_unmount(self) -> None:
        self._release()

    def _release(self) -> None:
        kitty, self._transmitted = self._transmitted, None
        if kitty:
            kitty[0].forget(kitty[1])

    def _lines(self, width: int, height: int) -> list[Strip]:
        kitty = window(self).kitty
        key = (width, height, kitty)
        if self._cache is None or self._cache[0] != key:
            self._release()
            columns, rows = self._fitted(width, height)
            left, top = (width - columns) // 2, (height - rows) // 2
            margin = Segment(" " * left)
            lines = self._fine_lines(kitty, columns, rows) if kitty else self._coarse_lines(columns, rows)
            strips = [Strip([margin, *line]).adjust_cell_length(width) for line in lines]
            self._cache = (key, [Strip.blank(width)] * top + strips)
        return self._cache[1]

    def _fine_lines(self, kitty: "Kitty", columns: int, rows: int) -> list[list[Segment]]:
        """Transmit the image; returns its placeholder cells."""
        import numpy as np
        from PIL import Image

        image = self.image
        if self.patches or self.weights is not None:
            scale = FINE / max(image.size)
            enlarged = image.resize((round(image.width * scale), round(image.height * scale)))
            image = Image.fromarray(self._paint(np.asarray(enlarged.convert("RGB"))))
        number, lines = kitty.show(image, columns, rows)
        self._transmitted = kitty, number
        return lines

    def _coarse_lines(self, columns: int, rows: int) -> list[list[Segment]]:
        """Draw two pixels in each cell, or dots without colors."""
        from mlx_llava.tui.images.blocks import braille, half_blocks, resize

        if os.environ.get("NO_COLOR"):
            on_light = not self.app.current_theme.dark
            return braille(self._paint(resize(self.image, 2 * columns, 2 * rows)), on_light)
        return half_blocks(self._paint(resize(self.image, columns, rows)))

    def _paint(self, pixels: "Pixels") -> "Pixels":
        """Draw the heat map and the grid over the pixels."""
        from mlx_llava.tui.images.blocks import draw_grid, draw_heat

        pixels = pixels if self.weights is None else draw_heat(pixels, self.weights)
        return draw_grid(pixels, self.patches) if self.patches else pixels
