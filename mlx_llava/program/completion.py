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
        commands: the options of each command.
    """
    if shell not in shtab.SUPPORTED_SHELLS:
        known = ", ".join(shtab.SUPPORTED_SHELLS)
        raise UsageError(f"--print-completion {shell}".rstrip() + ": no such shell", f"Use one of {known}.")
    parser = argparse.ArgumentParser("mlx-llava")
    parser.add_argument("-V", "--version", action="version")
    subparsers = parser.add_subparsers()
    for name, options in commands.items():
        own = parser_of(options, f"mlx-llava {name}", {})
        summary = (own.description or "").partition("\n")[0]
        command = subparsers.add_parser(name, help=summary, description=summary, parents=[own], add_help=False)
        for action in command._actions:
            _complete_paths(action)
    return shtab.complete(parser, shell)


def _complete_paths(action: argparse.Action) -> None:
    """Let the shell complete file names where a value may be one."""
    if action.metavar in ("FILE", "PATH", "IMAGE", "MODEL") or not action.option_strings:
        action.complete = shtab.FILE  # type: ignore[attr-defined]
    elif action.metavar == "FOLDER":
        action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
