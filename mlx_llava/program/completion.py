"""Completion scripts for shells, made by shtab from the parsers of the commands."""

import argparse
from collections.abc import Mapping
from typing import Any

import shtab

from mlx_llava.errors import UsageError
from mlx_llava.program.options import parser_of


def completion(commands: Mapping[str, type[Any]], shell: str) -> str:
    """The script that completes `mlx-llava` in a shell; UsageError for a shell that shtab does not know.

    Args:
        commands: the options of each command; those of its actions, such as `models pull`, come after it.
    """
    if shell not in shtab.SUPPORTED_SHELLS:
        known = ", ".join(shtab.SUPPORTED_SHELLS)
        problem = f"--print-completion {shell}: no such shell" if shell else "--print-completion needs a shell"
        raise UsageError(problem, f"Use one of {known}.")
    parser = argparse.ArgumentParser("mlx-llava")
    parser.add_argument("-V", "--version", action="version")
    parsers, tables = {"": parser}, {}
    for name, options in commands.items():
        command, _, word = name.rpartition(" ")
        if command not in tables:
            tables[command] = parsers[command].add_subparsers()
        parsers[name] = _subparser(tables[command], word, parser_of(options, f"mlx-llava {name}", {}))
    return shtab.complete(parser, shell)


def _subparser(table: Any, word: str, own: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Add a command to the table of its parent's, with the flags of its own parser."""
    summary = (own.description or "").partition("\n")[0]
    command = table.add_parser(word, help=summary, description=summary, parents=[own], add_help=False)
    for action in command._actions:
        _complete_paths(action)
    return command


def _complete_paths(action: argparse.Action) -> None:
    """Let the shell complete file names where a value may be one."""
    if action.metavar in ("FILE", "PATH", "IMAGE", "MODEL") or not action.option_strings:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar == "FOLDER":
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
