"""What screens and widgets need of the application that they run in."""

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from textual.dom import DOMNode

    from mlx_llava.tui.images.kitty import Kitty


@runtime_checkable
class Window(Protocol):
    """The application, as screens and widgets see it."""

    @property
    def kitty(self) -> "Kitty | None":
        """The terminal, if it draws images and the settings allow it."""

    def copy_out(self, text: str) -> None:
        """Copy text to the clipboard."""

    def type_text(self, text: str) -> None:
        """Insert text into the prompt."""

    def run_command(self, line: str) -> None:
        """Run a slash command in the chat."""


def window(node: "DOMNode") -> Window:
    """Return the application of a screen or widget."""
    app = node.app
    if not isinstance(app, Window):
        raise TypeError(f"{type(app).__name__} lacks a member of Window")
    return app
