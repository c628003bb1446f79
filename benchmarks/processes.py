"""Run a command, and measure its time and memory.

Imports nothing heavy, because a child's peak memory starts at its parent's.
"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Finished:
    """A finished process: wall and CPU seconds, peak memory in bytes, exit code and output."""

    wall: float
    cpu: float
    peak: int
    code: int
    stdout: str
    stderr: str


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Finished:
    """Run a command and wait for it."""
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Finished(wall, usage.ru_utime + usage.ru_stime, peak(usage), process.returncode, out.read(), err.read())


def peak(usage: resource.struct_rusage) -> int:
    """Peak memory in bytes; macOS reports bytes, Linux kB."""
    return usage.ru_maxrss if sys.platform == "darwin" else usage.ru_maxrss * 1024


def failure(finished: Finished) -> str:
    """Why a process failed, in one line; prints its whole stderr."""
    print(finished.stderr, file=sys.stderr)
    last = finished.stderr.strip().splitlines()[-1:] or [f"exit code {finished.code}"]
    return f"failed: {last[0][:80]}"
