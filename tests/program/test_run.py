"""Errors and exit codes of a program."""

import subprocess
import sys

import pytest


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
