"""Options of a program, said once: a frozen dataclass is the default, the recipe's keys, the flag and the help text."""

import contextlib
import dataclasses
import io
import sys
import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from mlx_llava.errors import UsageError

Options = TypeVar("Options")

STYLE = (
    tyro.conf.FlagCreatePairsOff,  # --no-stream, and no --stream that is the default anyway
    tyro.conf.UseAppendAction,  # --image a.jpg --image b.jpg
    tyro.conf.DisallowNone,  # an optional flag is left out, not given the word None
    tyro.conf.PositionalMetavarFromFieldName,
)
RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = "--recipe"


def optional(metavar: str, *aliases: str) -> Any:
    """A flag without a value of its own: help shows `metavar`, and what happens without it is in its docstring."""
    return tyro.conf.arg(metavar=metavar, aliases=aliases, help_behavior_hint=_unless_none)


def _unless_none(default: str) -> str:
    return "" if default == "None" else f"(default: {default})"  # a recipe gives one


def parse(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """Read a command line into `options`; prints help and exits on `--help`, raises UsageError for bad flags.

    Words may stand before, between and after the flags; they go to the field `words`. Where there is a field
    `recipe`, the TOML file it names gives defaults.
    """
    complaint, given = io.StringIO(), sys.argv[1:] if arguments is None else arguments
    default = _defaults(options, program, given)
    style = STYLE if default is tyro.MISSING_NONPROP else STYLE[1:]  # a switch that a recipe sets can be set back
    try:
        with contextlib.redirect_stderr(complaint):
            read, rest = tyro.cli(
                options, prog=program, args=given, default=default, config=style, return_unknown_args=True
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_first_sentence(complaint.getvalue()), f"See {program} --help.") from None
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "words")]
    if unknown:
        raise UsageError(f"{', '.join(unknown[:5])}: not an option of this program", f"See {program} --help.")
    values = vars(read)
    return options(**{**values, "words": (*values["words"], *rest)}) if rest else read


def _defaults(options: type[Any], program: str, arguments: Sequence[str]) -> Any:
    """The options as the recipe on a command line has them, what it leaves required marked so."""
    name = _last_recipe(arguments)
    fields = {field.name: field for field in dataclasses.fields(options)}
    if name is None or "recipe" not in fields:
        return tyro.MISSING_NONPROP
    required = {
        n: tyro.MISSING for n, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING
    }
    return options(**{**required, **read_recipe(name, options, program.split()[-1])})


def _last_recipe(arguments: Sequence[str]) -> str | None:
    named = [word.partition("=")[2] for word in arguments if word.startswith(f"{RECIPE}=")]
    named += [name for flag, name in pairwise(arguments) if flag == RECIPE]
    return named[-1] if named else None


def read_recipe(name: str, options: type[Any], program: str) -> dict[str, Any]:
    """The values of a recipe, which is a TOML file or the name of one in this package.

    Raises UsageError where it cannot be read, is one for another `program`, has a key that `options` has no field
    for, or a value of another type.
    """
    path = RECIPES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        problem = "no such recipe" if isinstance(error, FileNotFoundError) else str(error)
        ours = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"{RECIPE} {name}: {problem}", f"Name a TOML file, or one of {ours}.") from None
    if values.pop("program", program) != program:
        raise UsageError(f"{RECIPE} {name}: not a recipe for {program}", "Its first lines name the program it is for.")
    types = get_type_hints(options)
    return {key: _value(path, key, value, types) for key, value in values.items()}


def _value(path: Path, key: str, value: object, types: dict[str, Any]) -> object:
    """A recipe's value as its field has it."""
    if key not in types or key == "recipe":
        raise UsageError(f"{path}: {key} is not a key of this program", "Keys are its flags, with _ for -.")
    wanted = [kind for kind in get_args(types[key]) or (types[key],) if kind is not NoneType]
    if get_origin(types[key]) is Literal:
        wanted = [types[key]]
    for kind in wanted:
        if get_origin(kind) is Literal and value in get_args(kind):
            return value
        if kind is Path and isinstance(value, str):
            return Path(value)
        if kind is float and type(value) is int:
            return float(value)
        if type(value) is kind:  # a bool is no int here
            return value
    raise UsageError(f"{path}: {key} = {value!r} is of the wrong type", f"Give {_spelled(wanted)}.")


def _spelled(kinds: Sequence[Any]) -> str:
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text"}
    return " or ".join(words.get(kind) or " or ".join(map(repr, get_args(kind))) for kind in kinds)


def _first_sentence(box: str) -> str:
    """What a box drawn by tyro says first, on one line."""
    sentence = []
    for line in box.splitlines()[1:]:
        if line.strip(" │|+-─╭╰╮╯"):
            sentence.append(line.strip(" │|"))
        elif sentence:  # the frame's own lines, drawn in ASCII where stdout knows no other
            break
    return " ".join(sentence) or "The command line cannot be read."
