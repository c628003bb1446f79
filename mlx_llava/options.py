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
    """Read a command line into `options`; prints help and exits on `--help`, raises UsageError for bad flags.

    Words may stand before, between and after the flags; they go to the field `words`.
    """
    complaint, given = io.StringIO(), sys.argv[1:] if arguments is None else arguments
    try:
        with contextlib.redirect_stderr(complaint):
            read, rest = tyro.cli(options, prog=program, args=given, config=STYLE, return_unknown_args=True)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_first_sentence(complaint.getvalue()), f"See {program} --help.") from None
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "words")]
    if unknown:
        raise UsageError(f"{', '.join(unknown[:5])}: not an option of this program", f"See {program} --help.")
    values = vars(read)
    return options(**{**values, "words": (*values["words"], *rest)}) if rest else read


def _first_sentence(box: str) -> str:
    """What a box drawn by tyro says first, on one line."""
    sentence = []
    for line in box.splitlines()[1:]:
        if line.strip(" │|+-─╭╰╮╯"):
            sentence.append(line.strip(" │|"))
        elif sentence:  # the frame's own lines, drawn in ASCII where stdout knows no other
            break
    return " ".join(sentence) or "The command line cannot be read."
