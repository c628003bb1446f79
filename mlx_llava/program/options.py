"""Command-line options from a frozen dataclass, which is the one source of flags, defaults, help and recipe keys."""

import contextlib
import dataclasses
import io
import sys
import tomllib
from collections.abc import Sequence
from itertools import dropwhile, pairwise, takewhile
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tyro

from mlx_llava.errors import UsageError

Options = TypeVar("Options")

STYLE = (
    tyro.conf.FlagCreatePairsOff,  # --no-stream, without a --stream that is the default anyway
    tyro.conf.UseAppendAction,  # --image a.jpg --image b.jpg
    tyro.conf.DisallowNone,  # an optional flag is left out, not given the word None
    tyro.conf.PositionalMetavarFromFieldName,
)
RECIPES = Path(__file__).parents[1] / "recipes"
RECIPE = "--recipe"
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text"}
CONVERTED = {(int, float), (str, Path)}  # TOML types that another type accepts


def optional(metavar: str, *aliases: str) -> Any:
    """A flag whose default is None; help shows `metavar`, and the docstring says what happens without the flag."""
    return tyro.conf.arg(metavar=metavar, aliases=aliases, help_behavior_hint=_unless_none)


def _unless_none(default: str) -> str:
    return "" if default == "None" else f"(default: {default})"  # from a recipe


def parse(options: type[Options], program: str, arguments: Sequence[str] | None = None) -> Options:
    """Parse a command line into `options`; prints help and exits on `--help`, raises UsageError for bad flags.

    Positional words may come before, between and after the flags; they go to the field `words`. If there is a field
    `recipe`, the TOML file it names supplies defaults.
    """
    stderr, words = io.StringIO(), sys.argv[1:] if arguments is None else arguments
    default = _defaults(options, program, words)
    style = STYLE if default is tyro.MISSING_NONPROP else STYLE[1:]  # a switch that a recipe sets can be reset
    try:
        with contextlib.redirect_stderr(stderr):
            parsed, rest = tyro.cli(
                options, prog=program, args=words, default=default, config=style, return_unknown_args=True
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise UsageError(_message(stderr.getvalue()), f"See {program} --help.") from None
    unknown = [word for word in rest if word.startswith("-") or not hasattr(options, "words")]
    if unknown:
        raise UsageError(f"{', '.join(unknown[:5])}: not an option of this program", f"See {program} --help.")
    values = vars(parsed)
    return options(**{**values, "words": (*values["words"], *rest)}) if rest else parsed


def _defaults(options: type[Any], program: str, arguments: Sequence[str]) -> Any:
    """The options with the recipe's values as defaults; fields that are still required are marked MISSING."""
    name = _last_recipe(arguments)
    fields = {field.name: field for field in dataclasses.fields(options)}
    if name is None or "recipe" not in fields:
        return tyro.MISSING_NONPROP
    required = {
        n: tyro.MISSING for n, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING
    }
    return options(**{**required, **read_recipe(name, options, program.split()[-1])})


def _last_recipe(arguments: Sequence[str]) -> str | None:
    names = [word.partition("=")[2] for word in arguments if word.startswith(f"{RECIPE}=")]
    names += [name for flag, name in pairwise(arguments) if flag == RECIPE]
    return names[-1] if names else None


def read_recipe(name: str, options: type[Any], program: str) -> dict[str, Any]:
    """The values of a recipe, which is a TOML file or the name of a bundled one.

    Raises UsageError if it cannot be read, is for another `program`, has a key that is no field of `options`, or a
    value of the wrong type.
    """
    path = RECIPES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        problem = "no such recipe" if isinstance(error, FileNotFoundError) else str(error)
        bundled = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"{RECIPE} {name}: {problem}", f"Name a TOML file, or one of {bundled}.") from None
    if values.pop("program", program) != program:
        raise UsageError(f"{RECIPE} {name}: not a recipe for {program}", "Its `program` key names its program.")
    types = get_type_hints(options)
    return {key: _value(path, key, value, types) for key, value in values.items()}


def _value(path: Path, key: str, value: object, types: dict[str, Any]) -> object:
    """A recipe's value, as the type of its field. TOML has types, so `"8"` and `true` are no numbers."""
    if key not in types or key == "recipe":
        raise UsageError(f"{path}: {key} is not a key of this program", "Keys are its flags, with _ for -.")
    hint = types[key]  # T, T | None, or a Literal in either place
    choices = [c for part in (hint, *get_args(hint)) if get_origin(part) is Literal for c in get_args(part)]
    kinds = [part for part in (hint, *get_args(hint)) if part in TYPES]
    if value in choices:
        return value
    for kind in kinds:
        if type(value) is kind or (type(value), kind) in CONVERTED:
            return kind(value)
    allowed = " or ".join([*map(repr, choices), *(TYPES[kind] for kind in kinds)])
    raise UsageError(f"{path}: {key} = {value!r} is of the wrong type", f"Give {allowed}.")


def _message(box: str) -> str:
    """The message in the box that tyro draws around an error, on one line.

    tyro has errors as data too, but in a private module that "may change or be removed in any release".
    """
    lines = (line.strip(" │|") if line.strip(" │|+-─╭╰╮╯") else "" for line in box.splitlines()[1:])  # or ASCII art
    return " ".join(takewhile(bool, dropwhile(lambda line: not line, lines))) or "The command line cannot be parsed."
