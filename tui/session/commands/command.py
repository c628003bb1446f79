"""What a slash command is."""

from collections.abc import Callable
from dataclasses import dataclass

from mlx_llava.errors import UsageError
from mlx_llava.tui.session.reply import Reply
from mlx_llava.tui.session.session import Session


@dataclass(frozen=True)
class Command:
    """A slash command."""

    name: str
    usage: str
    what: str
    run: Callable[[Session, str], Reply | None]


def number(argument: str) -> int:
    """Read a whole number as typed."""
    if not argument.isdecimal():
        raise UsageError(f"{argument}: not a number" if argument else "a number is missing", "/help shows the usage.")
    return int(argument[:9])
