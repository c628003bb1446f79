"""Command lines: a frozen dataclass is the one source of a command's flags, defaults, help and recipe keys."""

import argparse
import inspect
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from typing import Any, NoReturn, TypeVar

from mlx_llava.errors import UsageError
from mlx_llava.program.flags import Flag, flags_of
from mlx_llava.program.recipe import last_value, read_recipe
from mlx_llava.program.run import QUIET

Options = TypeVar("Options")

KINDS = {int: "a whole number", float: "a number"}
TRUTH = {"True": True, "False": False, "true": True, "false": False}


def parse(
    options: type[Options],
    program: str,
    arguments: Sequence[str] | None = None,
    defaults_of: Callable[[Sequence[str]], dict[str, Any]] | None = None,
) -> Options:
    """Parse a command line into `options`; prints help and exits on `--help`, raises UsageError for bad flags.

    Positional words may come before, between and after the flags. If there is a field `recipe`, the TOML file it names
    supplies defaults. `--quiet`, which every command has, keeps progress and notes off stderr.

    Args:
        defaults_of: the defaults for a command line that differ from those of the dataclass, instead of a recipe's.
    """
    table = flags_of(options)
    words, rest = _split_at_dashes(sys.argv[1:] if arguments is None else arguments)
    words = [*_with_values(words, {name: flag.alone for flag in table if flag.alone for name in flag.names})]
    defaults = defaults_of(words) if defaults_of else _recipe(words, table, program)
    parser = parser_of(options, program, defaults)
    parsed, unknown = parser.parse_known_intermixed_args(words)
    given = vars(parsed)
    for flag in table:
        if not flag.names:
            given[flag.field] = [*given.get(flag.field, ()), *rest]
            rest = []
    for word in [*unknown, *rest]:
        problem = "no such option" if word.startswith("-") else "unexpected"
        raise UsageError(f"{word}: {problem}", _nearest(word, parser, program))
    if given.pop("quiet", False):
        os.environ[QUIET] = "1"
    values = defaults | {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    missing = [flag.names[0] for flag in table if flag.required and flag.field not in values]
    if missing:
        raise UsageError(f"missing: {', '.join(missing)}", _example(options, program))
    return options(**values)


def _recipe(words: Sequence[str], table: Sequence[Flag], program: str) -> dict[str, Any]:
    name = last_value(words) if any(flag.field == "recipe" for flag in table) else None
    return {} if name is None else read_recipe(name, table, program.split()[-1])


def _split_at_dashes(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words before and after the first `--`, behind which no word is a flag; argparse 3.11 mixes them up."""
    end = words.index("--") if "--" in words else len(words)
    return [_with_hyphens(word) for word in words[:end]], list(words[end + 1 :])


def parser_of(options: type[Any], program: str, defaults: dict[str, Any]) -> argparse.ArgumentParser:
    """The parser of a command; what it parses has the fields that were given and no others.

    Args:
        defaults: values of a recipe, for the help.
    """
    table = [flag for flag in flags_of(options) if flag.names]
    words = [flag for flag in flags_of(options) if not flag.names]
    needed = [flag for flag in table if flag.required and flag.field not in defaults]
    usage = [program, *(f"{flag.names[0]} {flag.metavar}" for flag in needed), "[OPTIONS]"]
    parser = _Parser(
        prog=program,
        usage=" ".join([*usage, *(flag.metavar for flag in words)]),
        description=inspect.getdoc(options),
        epilog="\n".join(["example:", *(f"  {line}" for line in getattr(options, "examples", ()))]),
        formatter_class=_Formatter,
        argument_default=argparse.SUPPRESS,
        add_help=False,
        allow_abbrev=False,
    )
    groups: dict[str, Any] = {}
    for flag in [*words, *needed, *(flag for flag in table if flag not in needed)]:
        title = "arguments" if flag in words else "required" if flag in needed else flag.group
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        _add(groups[title], flag, defaults.get(flag.field, flag.default))
    other = parser.add_argument_group("help and messages")
    other.add_argument("-h", "--help", action="help", help="Show this help.")
    other.add_argument("--quiet", action="store_true", help="No progress and notes on stderr; errors only.")
    return parser


def _add(group: Any, flag: Flag, default: Any) -> None:
    """Add a flag to a group of the parser."""
    keys: dict[str, Any] = {"dest": flag.field, "help": _help(flag, default).replace("%", "%%")}
    if not flag.names:
        group.add_argument(nargs="*", metavar=flag.metavar, **keys)
    elif flag.type is not bool:
        keys |= {"type": _reader(flag), "action": "append" if flag.many else "store"}
        group.add_argument(*flag.names, metavar=flag.metavar, **keys)
    else:
        on, off = flag.default is not True, flag.default is not False  # help shows the names that change the default
        keys["shown"] = (*(flag.names if on else ()), *((flag.negative,) if off else ()))
        keys |= {"action": _Switch, "type": _reader(flag), "nullable": flag.nullable}
        group.add_argument(*flag.names, flag.negative, **keys)


def _reader(flag: Flag) -> Callable[[str], Any]:
    """The function that turns a flag's text into its value."""
    values = TRUTH if flag.type is bool else {str(choice): choice for choice in flag.choices}

    def read(text: str) -> Any:
        try:
            return values[text] if values else flag.type(text)
        except (KeyError, ValueError):
            *some, last = map(str, values or (KINDS.get(flag.type, "a value"),))
            wanted = f"one of {', '.join(some)} or {last}" if some else last
            raise argparse.ArgumentTypeError(f"takes {wanted}, not {text!r}") from None

    return read


def _help(flag: Flag, default: Any) -> str:
    """The docstring, with the default unless it says that itself; a switch shows only what a recipe changes."""
    if flag.type is bool:
        shown = "" if default in (flag.default, None) else "on" if default else "off"
    else:
        shown = "" if flag.required or default in (None, ()) else str(default)
    return f"{flag.help.removesuffix('.')} (default: {shown})." if shown else flag.help


class _Switch(argparse.Action):
    """`--name`, `--no-name`, and for a switch whose default depends on something else `--name True|False`."""

    def __init__(self, *, shown: Sequence[str], nullable: bool, **keys: Any) -> None:
        super().__init__(nargs="?" if nullable else 0, **keys)
        self.shown = shown

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        on = values if isinstance(values, bool) else True
        setattr(namespace, self.dest, on != (option_string or "").startswith("--no-"))


class _Parser(argparse.ArgumentParser):
    """argparse with errors in this program's words."""

    def error(self, message: str) -> NoReturn:
        names, _, problem = message.removeprefix("argument ").partition(": ")
        name = next((name for name in names.split("/") if name.startswith("--")), names)
        problem = problem.replace("expected one argument", "needs a value")
        problem = re.sub("^ignored explicit argument", "takes no value, not", problem)
        raise UsageError(f"{name} {problem}" if problem else message, f"See {self.prog} --help.")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Help at the width of the terminal, at most 100 columns; a flag's value is shown once, after all its names."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28, width=min(shutil.get_terminal_size().columns, 100) - 2)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if isinstance(action, _Switch):
            return ", ".join(_short_first(action.shown))
        value = "" if action.nargs == 0 else str(action.metavar)
        return f"{', '.join(_short_first(action.option_strings))} {value}".strip()

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Wrap paragraphs, and leave indented ones as they are."""
        wrapped = (part if "\n  " in part else textwrap.fill(part, width) for part in text.split("\n\n"))
        return "\n\n".join(wrapped)


def _short_first(names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda name: name.startswith("--"))


def _with_values(words: Sequence[str], alone: Mapping[str, str]) -> Iterator[str]:
    """Give a flag of `alone` its value where the next word is not one."""
    for word, after in pairwise([*words, ""]):
        value = alone.get(word)
        yield word if value is None or after.startswith(value[0]) else f"{word}={value}"


def _with_hyphens(word: str) -> str:
    """`--max_tokens` as `--max-tokens`."""
    name, equals, value = word.partition("=")
    return name.replace("_", "-") + equals + value if re.fullmatch(r"--[a-z]\w*(-\w+)*", name) else word


def _nearest(word: str, parser: argparse.ArgumentParser, program: str) -> str:
    names = {name.strip("-"): name for action in parser._actions for name in action.option_strings}
    near = get_close_matches(word.partition("=")[0].strip("-"), names, 1)
    return f"Did you mean {names[near[0]]}? See {program} --help." if near else f"See {program} --help."


def _example(options: type[Any], program: str) -> str:
    examples = getattr(options, "examples", ())
    return f"For example: {examples[0]}" if examples else f"See {program} --help."
