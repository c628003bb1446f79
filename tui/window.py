"""What screens and widgets need of the application that they run in."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from PIL import Image
    from rich.segment import Segment
    from textual.dom import DOMNode


class ImageTerminal(Protocol):
    """A terminal that draws images itself."""

    def show(self, pil_image: "Image.Image", columns: int, rows: int) -> "tuple[int, list[list[Segment]]]":
        """Transmit an image; returns its id and the placeholder cells it is drawn in."""
        ...

    def forget(self, image: int) -> None:
        """Delete a transmitted image."""
        ...


@runtime_checkable
class Window(Protocol):
    """The application, as screens and widgets see it."""

    @property
    def kitty(self) -> ImageTerminal | None:
        """The terminal, if it draws images and the settings allow it."""
        ...

    def copy_out(self, text: str) -> None:
        """Copy text to the clipboard."""
        ...

    def type_text(self, text: str) -> None:
        """Insert text into the prompt."""
        ...

    def run_command(self, line: str) -> None:
        """Run a slash command in the chat."""
        ...


def window(node: "DOMNode") -> Window:
    """The application of a screen or widget."""
    app = node.app
    if not isinstance(app, Window):
        raise TypeError(f"{type(app).__name__} lacks a member of Window")
    return app
