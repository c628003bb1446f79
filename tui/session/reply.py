"""What a slash command is, and what it asks of the front that runs it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlx_llava.errors import UsageError
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.session import Session


@dataclass(frozen=True)
class Reply:
    """What a command asks of the front."""

    text: str = ""
    attach: tuple[Path, ...] = ()
    fetched: tuple[str, ...] = ()
    """Addresses of pictures to attach."""
    pasted: bool = False
    """Whether to attach the picture on the clipboard."""
    copy: str | None = None
    fill: str | None = None
    """Text for the prompt, to be edited and sent."""
    edited: Node | None = None
    """The question that this text replaces."""
    screen: str | None = None
    opened: int | None = None
    """A chat of the history to go on in."""
    quit: bool = False


@dataclass(frozen=True)
class Command:
    """A word after a slash."""

    name: str
    usage: str
    what: str
    run: Callable[[Session, str], Reply]


def number(argument: str) -> int:
    """A whole number that somebody typed."""
    if not argument.isdecimal():
        raise UsageError(f"{argument}: not a number" if argument else "a number is missing", "/help shows where.")
    return int(argument[:9])
