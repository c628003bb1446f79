"""A picture on the screen."""

import os
from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

from mlx_llava.tui.window import ImageTerminal, window

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from mlx_llava.tui.images.blocks import Pixels

FINE = 768  # pixels along the longer edge of what is drawn over a picture: 32 in each of 24 patches


class ImageView(Widget):
    """Shows a picture, as large as it fits."""

    def __init__(self, image: "Image.Image", max_columns: int = 0, max_rows: int = 0) -> None:
        """Show `image`; in at most so many columns and rows, or in all the room there is."""
        super().__init__()
        self.image = image
        self.most = (max_columns, max_rows)
        self.patches = 0
        self.weights: NDArray[np.floating] | None = None
        self._drawn: tuple[tuple[int, int, ImageTerminal | None], list[Strip]] | None = None
        self._held: tuple[ImageTerminal, int] | None = None

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
        from mlx_llava.tui.images.blocks import fit_cells

        columns, rows = (min(have, most or have) for have, most in zip((columns, rows), self.most, strict=True))
        return fit_cells(self.image.size, max(columns, 1), max(rows, 1))

    def patch_at(self, x: int, y: int, side: int) -> tuple[int, int] | None:
        """Row and column of the patch in a cell, of side x side; None beside the picture."""
        from mlx_llava.tui.images.blocks import Box, patch_at

        columns, rows = self._fitted(self.size.width, self.size.height)
        box = Box((self.size.width - columns) // 2, (self.size.height - rows) // 2 * 2, columns, 2 * rows)
        return patch_at(x + 0.5, 2 * y + 1, box, side)

    def render_line(self, y: int) -> Strip:
        """One row of the picture."""
        lines = self._lines(self.size.width, self.size.height)
        strip = lines[y] if y < len(lines) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)

    def on_unmount(self) -> None:
        """Take the picture back from the terminal."""
        self._let_go()

    def _let_go(self) -> None:
        kitty, self._held = self._held, None
        if kitty:
            kitty[0].forget(kitty[1])

    def _lines(self, width: int, height: int) -> list[Strip]:
        kitty = window(self).kitty
        key = (width, height, kitty)
        if self._drawn is None or self._drawn[0] != key:
            self._let_go()
            columns, rows = self._fitted(width, height)
            left, top = (width - columns) // 2, (height - rows) // 2
            margin = Segment(" " * left)
            drawn = self._finely(kitty, columns, rows) if kitty else self._coarsely(columns, rows)
            strips = [Strip([margin, *line]).adjust_cell_length(width) for line in drawn]
            self._drawn = (key, [Strip.blank(width)] * top + strips)
        return self._drawn[1]

    def _finely(self, kitty: ImageTerminal, columns: int, rows: int) -> list[list[Segment]]:
        """Cells in whose place the terminal shows the picture itself."""
        import numpy as np
        from PIL import Image

        image = self.image
        if self.patches or self.weights is not None:
            scale = FINE / max(image.size)
            enlarged = image.resize((round(image.width * scale), round(image.height * scale)))
            image = Image.fromarray(self._painted(np.asarray(enlarged.convert("RGB"))))
        number, drawn = kitty.show(image, columns, rows)
        self._held = kitty, number
        return drawn

    def _coarsely(self, columns: int, rows: int) -> list[list[Segment]]:
        """Cells of two pixels each; of dots, where there are no colours."""
        from mlx_llava.tui.images.blocks import braille, half_blocks, resize

        if os.environ.get("NO_COLOR"):
            on_light = not self.app.current_theme.dark
            return braille(self._painted(resize(self.image, 2 * columns, 2 * rows)), on_light)
        return half_blocks(self._painted(resize(self.image, columns, rows)))

    def _painted(self, pixels: "Pixels") -> "Pixels":
        """The picture with what is to be seen on it."""
        from mlx_llava.tui.images.blocks import draw_grid, draw_heat

        pixels = pixels if self.weights is None else draw_heat(pixels, self.weights)
        return draw_grid(pixels, self.patches) if self.patches else pixels
