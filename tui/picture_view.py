"""A picture on the screen."""

from typing import TYPE_CHECKING

from rich.segment import Segment
from textual.geometry import Size
from textual.strip import Strip
from textual.widget import Widget

if TYPE_CHECKING:
    from PIL import Image

    from mlx_llava.tui.blocks import Pixels


class PictureView(Widget):
    """Shows a picture in half blocks, as large as it fits."""

    def __init__(self, image: "Image.Image", max_columns: int = 0, max_rows: int = 0) -> None:
        """Show `image`; in at most so many columns and rows, or in all the room there is."""
        super().__init__()
        self.image = image
        self.most = (max_columns, max_rows)
        self.patches = 0
        self._drawn: tuple[tuple[int, int], list[Strip]] | None = None

    def show(self, image: "Image.Image", patches: int = 0) -> None:
        """Show another picture, with lines between its patches x patches patches if there are any."""
        self.image, self.patches, self._drawn = image, patches, None
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

    def render_line(self, y: int) -> Strip:
        """One row of the picture."""
        lines = self._lines(self.size.width, self.size.height)
        strip = lines[y] if y < len(lines) else Strip.blank(self.size.width)
        return strip.apply_style(self.rich_style)

    def painted(self, pixels: "Pixels") -> "Pixels":
        """The picture with what is to be seen on it."""
        from mlx_llava.tui.blocks import grid

        return grid(pixels, self.patches) if self.patches else pixels

    def _lines(self, width: int, height: int) -> list[Strip]:
        from mlx_llava.tui.blocks import lines, sized

        if self._drawn is None or self._drawn[0] != (width, height):
            columns, rows = self._fitted(width, height)
            left, top = (width - columns) // 2, (height - rows) // 2
            margin = Segment(" " * left)
            drawn = lines(self.painted(sized(self.image, columns, rows)))
            strips = [Strip([margin, *line]).adjust_cell_length(width) for line in drawn]
            self._drawn = ((width, height), [Strip.blank(width)] * top + strips)
        return self._drawn[1]
