"""The flags of a command, read from its options: a frozen dataclass whose fields say name, type, default and help.

A flag belongs to the group of the dataclass that declares it first, so commands share flags by inheritance.
"""

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from functools import cache
from inspect import get_annotations
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


@dataclass(frozen=True)
class Spelling:
    """How a field is written on the command line, where that does not follow from its name and type."""

    metavar: str = ""
    aliases: tuple[str, ...] = ()
    name: str = ""
    positional: bool = False
    alone: str = ""


def flag(metavar: str = "", *aliases: str, name: str = "", alone: str = "") -> Spelling:
    """Annotates a field with what stands for its value in the help, other names, and a name that is not the field's.

    Args:
        alone: the value of the flag without one; a word is its value only if it begins with the same character.
    """
    return Spelling(metavar, aliases, name, alone=alone)


def positional(metavar: str) -> Spelling:
    """Annotates the field of the words that belong to no flag."""
    return Spelling(metavar, positional=True)


@dataclass(frozen=True)
class Flag:
    """One flag of a command."""

    field: str
    names: tuple[str, ...]
    """The first is the one that messages use; empty for the positional words."""
    type: type
    choices: tuple[Any, ...]
    many: bool
    """Whether it may be repeated."""
    nullable: bool
    """Whether the field is None without the flag."""
    default: Any
    """MISSING if the flag is required."""
    metavar: str
    help: str
    group: str
    alone: str
    """The value of the flag without one."""

    @property
    def required(self) -> bool:
        return self.default is MISSING

    @property
    def negative(self) -> str:
        """The name that switches a boolean off."""
        return f"--no-{self.names[0].removeprefix('--')}"


def flag_name(field: str) -> str:
    """The name of a field's flag, unless its annotation has another."""
    return f"--{field.replace('_', '-')}"


def flags_of(options: type[Any]) -> list[Flag]:
    """The flags of a command, group by group in the order of its base classes."""
    hints = get_type_hints(options, include_extras=True)
    found = {field.name: field for field in dataclasses.fields(options) if field.init}
    return [
        _flag(found[name], hints[name], _help(options, name), _title(group, options))
        for group in options.__mro__
        for name in get_annotations(group)
        if name in found and _declares_first(group, name)
    ]


def _flag(field: dataclasses.Field[Any], hint: Any, text: str, group: str) -> Flag:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    (spelling,) = [mark for mark in marks if isinstance(mark, Spelling)] or [Spelling()]  # a second would be lost
    bare = get_args(hint)[0] if marks else hint
    parts = [part for part in get_args(bare) if part is not type(None)]
    nullable = type(None) in get_args(bare)
    inner = parts[0] if nullable else bare
    choices = get_args(inner) if get_origin(inner) is Literal else ()
    many = get_origin(inner) is tuple
    kind = type(choices[0]) if choices else get_args(inner)[0] if many else inner
    default = field.default if field.default_factory is MISSING else field.default_factory()
    names = () if spelling.positional else (spelling.name or flag_name(field.name), *spelling.aliases)
    metavar = spelling.metavar or (f"{{{','.join(map(str, choices))}}}" if choices else METAVARS.get(kind, ""))
    return Flag(field.name, names, kind, choices, many, nullable, default, metavar, text, group, spelling.alone)


def _declares_first(group: type[Any], name: str) -> bool:
    return not any(name in get_annotations(base) for base in group.__mro__[1:])


def _title(group: type[Any], options: type[Any]) -> str:
    """The title of a group: the docstring of its dataclass, or "options" for what only this command has."""
    return "options" if group is options else (inspect.getdoc(group) or "").rstrip(".").lower()


def _help(options: type[Any], name: str) -> str:
    return next((texts[name] for group in options.__mro__ if name in (texts := _docstrings(group))), "")


@cache
def _docstrings(group: type[Any]) -> dict[str, str]:
    """The strings below the fields of a class."""
    return dict(_pairs(_classes(group.__module__)[group.__qualname__])) if get_annotations(group) else {}


@cache
def _classes(module: str) -> dict[str, list[ast.stmt]]:
    """The bodies of the classes of a module; one reading of its file serves all of them."""
    source = ast.parse(inspect.getsource(sys.modules[module]))
    return {node.name: node.body for node in source.body if isinstance(node, ast.ClassDef)}


def _pairs(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, text in pairwise(body):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, " ".join(words.split())


Examples = ClassVar[tuple[str, ...]]  # `examples: Examples = ("mlx-llava …",)`, shown below the help
