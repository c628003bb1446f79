"""Options of a program, said once: a frozen dataclass is the default, the flag and the help text."""

import contextlib
import io
import sys
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from mlx_llava.errors import UsageError

Options = TypeVar("Options")

STYLE = (
    tyro.conf.FlagCreatePairsOff,  # --no-stream, and no --stream that is the default anyway
    tyro.conf.UseAppendAction,  # --image a.jpg --image b.jpg
    tyro.conf.DisallowNone,  # an optional flag is left out, not given the word None
    tyro.conf.PositionalMetavarFromFieldName,
)


def optional(metavar: str, *aliases: str) -> Any:
    """A flag without a value of its own: help shows `metavar`, and what happens without it is in its docstring."""
    return tyro.conf.arg(metavar=metavar, aliases=aliases, help_behavior_hint="")


def parse(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """Read a command line into `options`; prints help and exits on `--help`, raises UsageError for bad flags."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                options,
                prog=program,
                args=sys.argv[1:] if arguments is None else arguments,
                config=(
                    tyro.conf.FlagCreatePairsOff,
                    tyro.conf.UseAppendAction,
                    tyro.conf.PositionalMetavarFromFieldName,
                ),
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_first_sentence(complaint.getvalue()), f"See {program} --help.") from None


def _first_sentence(box: str) -> str:
    """What a box drawn by tyro says first, on one line."""
    lines = [line.strip(" │╭╰╮╯─") for line in box.splitlines()[1:]]
    sentence = []
    for line in lines:
        if not line:
            break
        sentence.append(line)
    return " ".join(sentence) or "The command line cannot be read."
