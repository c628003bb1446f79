"""Slash commands, the same in both front ends: a command changes the session and may return a `Reply`."""

import difflib

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.program.run import explain
from mlx_llava.tui.session.commands.command import Command
from mlx_llava.tui.session.commands.table import ALIASES, COMMANDS
from mlx_llava.tui.session.reply import Reply
from mlx_llava.tui.session.session import Session


def run(session: Session, line: str) -> Reply | None:
    """Run a line that starts with a slash; every error is a LlavaError."""
    word, _, argument = line.strip().removeprefix("/").partition(" ")
    command = COMMANDS.get(word) or COMMANDS.get(ALIASES.get(word, ""))
    if command is None:
        close = difflib.get_close_matches(word, COMMANDS, 1)
        raise UsageError(f"/{word}: no such command", f"Did you mean /{close[0]}?" if close else "/help lists them.")
    try:
        return command.run(session, argument.strip())
    except Exception as error:  # a bug in a command must not end the chat
        bug = f"/{command.name}: {type(error).__name__}: {error}"
        raise explain(error) or LlavaError(bug, "This is a bug in mlx-llava; please report it.") from error


def is_command(text: str) -> bool:
    """Whether a line is a command; a path like /home/me/cat.jpg is not."""
    word = text.strip().split(" ", 1)[0]
    return text.startswith("/") and "/" not in word[1:] and "\n" not in text.strip()


def matching(text: str) -> list[Command]:
    """Return the commands that start with what is typed."""
    word = text.removeprefix("/")
    return [command for command in COMMANDS.values() if command.name.startswith(word)] if is_command(text) else []
