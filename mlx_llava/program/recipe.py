"""Recipes: TOML files with the values of a program's flags."""

import tomllib
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlx_llava.errors import UsageError
from mlx_llava.program.flags import Flag

RECIPES = Path(__file__).parents[1] / "recipes"
NAMES = ("--recipe", "--config", "-c")  # mlx-lm has the last two
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a text"}
CONVERTED = {(int, float), (str, Path)}  # TOML types that another type accepts


def last_value(arguments: Sequence[str], names: Sequence[str] = NAMES) -> str | None:
    """The value that a command line gives one of these flags, `--recipe` by default, before it is parsed."""
    values = [word.partition("=")[2] for word in arguments if word.partition("=")[0] in names and "=" in word]
    values += [value for flag, value in pairwise(arguments) if flag in names]
    return values[-1] if values else None


def read_recipe(name: str, flags: Sequence[Flag], program: str) -> dict[str, Any]:
    """The values of a recipe, which is a TOML file or the name of a bundled one.

    Raises UsageError if it cannot be read, is for another `program`, has a key that is no field of the options, or a
    value of the wrong type.
    """
    path, values = _load(name)
    if values.pop("program", program) != program:
        raise UsageError(f"{NAMES[0]} {name}: not a recipe for {program}", "Its `program` key names its program.")
    table = {flag.field: flag for flag in flags}
    return {key: _value(path, key, value, table) for key, value in values.items()}


def program_of(name: str) -> object:
    """The program that a recipe is for; None if it does not say."""
    return _load(name)[1].get("program")


def _load(name: str) -> tuple[Path, dict[str, Any]]:
    path = RECIPES / f"{name}.toml"
    path = path if path.is_file() else Path(name)
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        problem = "no such recipe" if isinstance(error, FileNotFoundError) else str(error)
        bundled = ", ".join(sorted(file.stem for file in RECIPES.glob("*.toml")))
        raise UsageError(f"{NAMES[0]} {name}: {problem}", f"Name a TOML file, or one of {bundled}.") from None


def _value(path: Path, key: str, value: object, table: dict[str, Flag]) -> object:
    """A recipe's value, as the type of its field. TOML has types, so `"8"` and `true` are no numbers."""
    if key not in table or key == "recipe":
        raise UsageError(f"{path}: {key} is not a key of this program", "Keys are its flags, with _ for -.")
    flag = table[key]
    if value in flag.choices:
        return value
    if not flag.choices and (type(value) is flag.type or (type(value), flag.type) in CONVERTED):
        return flag.type(value)
    allowed = " or ".join(map(repr, flag.choices)) or TYPES[flag.type]
    raise UsageError(f"{path}: {key} = {value!r} is of the wrong type", f"Give {allowed}.")
