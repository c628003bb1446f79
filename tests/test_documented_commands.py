"""The program accepts every command line that the README and docs/ show."""

import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest

from mlx_llava.cli import PAGES, options_of
from mlx_llava.look import stage_defaults
from mlx_llava.program.completion import completion
from mlx_llava.program.flags import flags_of
from mlx_llava.program.options import parse

ROOT = Path(__file__).parents[1]
FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = re.compile(r"^```\w*\n(.*?)^```$|`([^`]+)`", re.MULTILINE | re.DOTALL)
PLACEHOLDERS = ("…", "COMMAND")


def command_lines() -> Iterator[tuple[str, str]]:
    """Command lines in blocks of code and in the text, with the names of their pages."""
    for file in FILES:
        for block, span in CODE.findall(file.read_text(encoding="utf-8")):
            for line in (block or span).replace("\\\n", " ").splitlines():
                command = line.rpartition(" | ")[2]
                if command.startswith("mlx-llava ") and not any(mark in command for mark in PLACEHOLDERS):
                    yield file.name, command


LINES = sorted(set(command_lines()))


def test_the_pages_show_every_command() -> None:
    assert {page for page in PAGES if any(line.startswith(f"mlx-llava {page}") for _, line in LINES)} == set(PAGES)


@pytest.mark.parametrize(("file", "line"), LINES)
def test_a_command_line_of_a_page_is_accepted(file: str, line: str) -> None:
    _, command, *words = takewhile(lambda word: word != ">", shlex.split(line, comments=True))
    if command == "--print-completion":
        assert completion({"ask": options_of("ask")}, *words)
        return
    if words and f"{command} {words[0]}" in PAGES:
        command, words = f"{command} {words[0]}", words[1:]
    assert command in PAGES
    if words or not any(
        flag.required for flag in flags_of(options_of(command))
    ):  # else the text only names the command
        assert parse(options_of(command), f"mlx-llava {command}", words, stage_defaults if command == "look" else None)
