"""Errors and exit codes of a program."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_llava.program.run import QUIET

ROOT = Path(__file__).parents[2]
TINY = ROOT / "mlx_llava" / "embedded" / "tiny-llava-hf"


def ends(failure: str) -> tuple[int, str]:
    """Exit code and stderr of a program that raises; a process of its own, for `run` gives MLX's streams back."""
    code = f"""
from mlx_llava.errors import *
from mlx_llava.program.run import run
def fail():
    raise {failure}
run(fail)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("failure", "code", "problem"),
    [
        ("ImageError('a\\nb.png: no such picture', 'Check the path.')", 4, "a␊b.png: no such picture"),
        ("LimitError('too long', 'Shorten it.')", 5, "too long"),
        ("FileNotFoundError(2, 'No such file or directory', 'x')", 1, "x: No such file or directory"),
        ("MemoryError()", 5, "out of memory"),
        ("RuntimeError('[metal::malloc] Attempting to allocate 9 bytes')", 5, "out of memory"),
        ("RuntimeError('[write] Unable to write 9 bytes.')", 1, "cannot write: [write] Unable to write 9 bytes."),
    ],
)
def test_an_error_is_told_in_two_lines(failure: str, code: int, problem: str) -> None:
    ended, told = ends(failure)
    first, second = told.splitlines()
    assert (ended, first) == (code, f"mlx-llava: error: {problem}")
    assert second


def test_an_error_that_nobody_foresaw_keeps_its_traceback() -> None:
    assert "RuntimeError: a bug" in ends("RuntimeError('a bug')")[1]


def test_an_interrupted_program_ends_with_130() -> None:
    assert ends("KeyboardInterrupt()") == (130, "")


# ---------------------------------------------------------------- Ctrl-C while a program starts

INTERRUPTS = """
import os, signal, sys
class Finder:  # sends Ctrl-C when the module {module} is imported
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""


@pytest.mark.parametrize("module", ["argparse", "dataclasses", "numpy", "mlx.core", "tokenizers"])
@pytest.mark.parametrize("start", [["-m", "mlx_llava"], ["-m", "mlx_llava.{}"]], ids=["command", "module"])
@pytest.mark.parametrize("program", ["ask", "lora"])
def test_ctrl_c_during_an_import_ends_the_program_without_a_word(
    module: str, start: list[str], program: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPTS.format(module=module))
    (tmp_path / "train.json").write_text(json.dumps([{"conversations": [{"from": "human", "value": "Hi"}]}]))
    arguments = {"ask": ["Hi"], "lora": ["--data", "train.json", "--adapter-path", "out"]}[program]
    command = [part.format(program) for part in start] + ([program] if start[-1] == "mlx_llava" else [])
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "MLX_LLAVA_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")
    assert not (tmp_path / "out").exists()


def test_importing_the_package_leaves_ctrl_c_alone() -> None:
    code = "import signal, mlx_llava; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


# ---------------------------------------------------------------- what reaches stderr and the terminal


def program(*words: str | Path, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mlx_llava", *map(str, words)]
    environment = {**os.environ, "MLX_LLAVA_HOME": str(home), **environment}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_quiet_keeps_progress_and_notes_off_stderr_but_not_errors(tmp_path: Path) -> None:
    convert = ("convert", "--hf-path", TINY, "--mlx-path")
    assert "written to" in program(*convert, tmp_path / "a", home=tmp_path).stderr
    for words, environment in (((*convert, tmp_path / "b", "--quiet"), {}), ((*convert, tmp_path / "c"), {QUIET: "1"})):
        done = program(*words, home=tmp_path, **environment)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    again = program(*convert, tmp_path / "b", "--quiet", home=tmp_path)
    assert (again.returncode, len(again.stderr.splitlines())) == (1, 2)
    ask = ("ask", "--each", TINY / "examples", "What?", "--max-tokens", "2")
    assert program(*ask, home=tmp_path).stderr
    assert program(*ask, "--quiet", home=tmp_path).stderr == ""


@pytest.mark.parametrize(
    ("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str
)
def test_colors_and_escapes_go_to_terminals_that_take_them(
    environment: dict[str, str], colored: bool, tmp_path: Path
) -> None:
    turns = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    (tmp_path / "train.json").write_text(json.dumps([{"conversations": turns}]))
    terminal, end = pty.openpty()
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "TERM")}
    subprocess.run(
        [sys.executable, "-m", "mlx_llava", "look", "--data", str(tmp_path / "train.json")],
        env={**plain, "TERM": "xterm", "MLX_LLAVA_HOME": str(tmp_path), **environment},
        stdout=end,
        check=True,
    )
    text = os.read(terminal, 1 << 16)  # a short output is in one piece
    os.close(end)
    os.close(terminal)
    assert b"Hello" in text
    assert (b"\x1b" in text) == colored
