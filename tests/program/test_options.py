"""Flags: every command's help, every documented spelling, and what a wrong command line gets."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from mlx_llava.cli import PAGES, options_of
from mlx_llava.errors import UsageError
from mlx_llava.program.completion import completion
from mlx_llava.program.flags import Examples, Flag, flag, flags_of, positional
from mlx_llava.program.options import parse, parser_of

FLAGS = [(name, flag) for name in PAGES for flag in flags_of(options_of(name)) if flag.names]
SAMPLES = {int: "1", float: "0.5", str: "text", Path: "file"}


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes."""

    width: int = 3
    """Width in pixels."""
    shape: Annotated[Literal["round", "square"] | None, flag("", "-s")] = None
    """Shape (default: the widest)."""


@dataclass(frozen=True, kw_only=True)
class Options(Sizes):
    """Draw things.

    In color, 100 % of them.
    """

    examples: Examples = ("draw --target out cat",)

    words: Annotated[tuple[str, ...], positional("THING ...")] = ()
    """Things."""
    target: Annotated[Path, flag("FILE", "--save-path")]
    """File to write."""
    width: int = 4
    """Width in points."""
    fill: bool = True
    """Draw outlines only."""
    fast: bool | None = None
    """Draw fast, or do not (default: on a GPU)."""
    color: Annotated[tuple[str, ...], flag("COLOR")] = ()
    """Color; repeat the flag."""
    copies: Annotated[str | None, flag("[.SUFFIX]", alone=".bak")] = None
    """Keep copies."""


def parsed(*arguments: str) -> Options:
    return parse(Options, "draw", ["--target", "out", *arguments])


def message(*arguments: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(Options, "draw", arguments)
    return f"{caught.value.problem} | {caught.value.advice}"


def spellings(flag: Flag) -> list[list[str]]:
    """The ways to write a flag that its help and this program's documentation show."""
    value = flag.alone or str(flag.choices[0]) if flag.alone or flag.choices else SAMPLES.get(flag.type, "")
    if flag.type is not bool:
        return [[name, value] for name in flag.names]
    switches = [[name] for name in (*flag.names, flag.negative)]
    return switches + [[flag.names[0], word] for word in ("True", "False") if flag.nullable]


@pytest.mark.parametrize(("command", "flag"), FLAGS, ids=[f"{name} {flag.names[0]}" for name, flag in FLAGS])
def test_every_spelling_of_a_flag_is_parsed_and_explained(command: str, flag: Flag) -> None:
    options = options_of(command)
    parser = parser_of(options, command, {})
    for words in spellings(flag):
        given, unknown = parser.parse_known_args(words)
        assert (list(vars(given)), unknown) == ([flag.field], []), words
    assert flag.help.endswith("."), "a sentence"
    assert not re.search(r"\(default: (False|True|None|\(\)|)\)", flag.help)


@pytest.mark.parametrize("command", PAGES)
def test_the_help_of_a_command_has_the_required_flags_first_groups_and_an_example(command: str) -> None:
    options = options_of(command)
    text = parser_of(options, f"mlx-llava {command}", {}).format_help()
    usage, titles = text.partition("\n\n")[0], re.findall(r"^([a-z ]+):$", text, re.MULTILINE)
    required = [flag.names[0] for flag in flags_of(options) if flag.required]
    assert all(name in usage for name in required)
    assert titles[-2:] == ["help and messages", "example"]
    assert ("required" in titles) == bool(required)
    assert not required or titles[0] == "required"
    assert not re.search(r"\(default: (False|True|None|\(\)|)\)", text)
    for example in options.examples:
        assert example.startswith(f"mlx-llava {command} ")
        assert example in text


@pytest.mark.parametrize("command", PAGES)
def test_the_examples_of_a_command_are_accepted(command: str) -> None:
    import shlex

    for example in options_of(command).examples:
        assert parse(options_of(command), command, shlex.split(example)[1 + len(command.split()) :])


def test_flags_words_and_defaults_are_parsed_in_any_order() -> None:
    assert parsed() == Options(target=Path("out"))
    assert parsed("cat", "--width=5", "dog", "--color", "red", "-s", "round", "--color", "blue") == Options(
        target=Path("out"), words=("cat", "dog"), width=5, color=("red", "blue"), shape="round"
    )
    assert parsed("--no-fill", "--no-fast", "--save_path", "in") == Options(target=Path("in"), fill=False, fast=False)
    assert [parsed("--fast", word).fast for word in ("True", "False")] == [True, False]
    for words in (["--copies", "a"], ["a", "--copies"], ["--copies=.bak", "a"], ["--copies", ".bak", "a"]):
        assert (parsed(*words).copies, parsed(*words).words) == (".bak", ("a",))
    assert parsed("--copies", ".old").copies == ".old"
    assert parsed("a", "--", "-b", "--no_fill").words == ("a", "-b", "--no_fill")


def test_a_flag_is_in_the_group_of_the_class_that_declares_it_first() -> None:
    assert {flag.field: (flag.group, flag.help) for flag in flags_of(Options) if flag.field in ("width", "fill")} == {
        "width": ("sizes", "Width in points."),
        "fill": ("options", "Draw outlines only."),
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "missing: --target | For example: draw --target out cat"),
        (["--target"], "--target needs a value | See draw --help."),
        (["--width", "wide"], "--width takes a whole number, not 'wide' | See draw --help."),
        (["--shape", "oval"], "--shape takes one of round or square, not 'oval' | See draw --help."),
        (["--fast=maybe"], "--fast takes one of True, False, true or false, not 'maybe' | See draw --help."),
        (["--widht", "3"], "--widht: no such option | Did you mean --width? See draw --help."),
        (["--quiet=1"], "--quiet takes no value, not '1' | See draw --help."),
        (["--nothing-like-it"], "--nothing-like-it: no such option | See draw --help."),
    ],
)
def test_a_wrong_command_line_is_answered_with_what_is_wrong_and_what_to_do(arguments: list[str], words: str) -> None:
    assert message(*arguments) == words


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_llava", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_help_of_a_command_is_shown_by_help_too() -> None:
    assert run("help", "models", "pull").stdout == run("models", "pull", "--help").stdout != ""
    assert "Did you mean chat?" in run("chta").stderr
    assert "--hlep: no such option\n" in run("--hlep").stderr
    assert "needs a shell\nUse one of bash, zsh" in run("--print-completion").stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_know_every_command_and_flag(shell: str) -> None:
    script = completion({name: options_of(name) for name in PAGES}, shell)
    dashes = "-l " if shell == "fish" else "--"
    assert not [name for name, _ in FLAGS if name.split()[-1] not in script]
    assert not [flag for _, flag in FLAGS if dashes + flag.names[0].removeprefix("--") not in script]


@pytest.mark.parametrize(
    ("words", "completed"),
    [("lora --adap", "--adapter-path"), ("models pu", "pull"), ("models pull --name", "--name")],
)
def test_the_completion_script_works_in_bash(tmp_path: Path, words: str, completed: str) -> None:
    (tmp_path / "script").write_text(completion({name: options_of(name) for name in PAGES}, "bash"))
    code = f"""
source {tmp_path / "script"}
COMP_WORDS=(mlx-llava {words}); COMP_CWORD={len(words.split())}
$(complete -p mlx-llava | sed 's/.*-F \\([^ ]*\\).*/\\1/')
echo "${{COMPREPLY[@]}}"
"""
    out: Any = subprocess.check_output(["bash", "-c", code], text=True)
    assert out.split() == [completed]
