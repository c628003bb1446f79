"""Errors and exit codes of a program."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


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
