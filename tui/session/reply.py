"""What a slash command asks the front end to do."""

from dataclasses import dataclass
from pathlib import Path

from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.dialogs import Dialog


@dataclass(frozen=True)
class Say:
    """Show a text."""

    text: str
    changed: Node | None = None
    """The answer that has a new text."""


@dataclass(frozen=True)
class Attach:
    """Attach images to the next question."""

    paths: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    clipboard: bool = False
    """Whether to attach the image on the clipboard."""


@dataclass(frozen=True)
class Copy:
    """Copy a text to the clipboard."""

    text: str
    message: str


@dataclass(frozen=True)
class Edit:
    """Put a text into the prompt, to be edited and sent."""

    text: str
    node: Node | None = None
    """The question or answer that it replaces."""


@dataclass(frozen=True)
class OpenChat:
    """Continue a saved chat."""

    key: int


@dataclass(frozen=True)
class Open:
    """Open a dialog; a front end without dialogs shows the text."""

    dialog: Dialog
    text: str = ""


@dataclass(frozen=True)
class Quit:
    """Leave the program."""


Reply = Say | Attach | Copy | Edit | OpenChat | Open | Quit
