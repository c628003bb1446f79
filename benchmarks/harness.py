"""Run measurements in fresh processes and print them as Markdown tables.

Imports nothing heavy, because a child's peak memory starts at its parent's. This package runs in this interpreter, the
peers in that of `--peers`. Without `--peers`, mlx-lm runs in this one: the package depends on it.
"""

import argparse
import json
import os
import platform
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
OURS, VLM, LM, PEFT = "mlx-llava", "mlx-vlm", "mlx-lm", "torch + peft"
MODULES = {OURS: "ours", VLM: "vlm", LM: "lm", PEFT: "torch_peft"}  # in sides/
NOT_INSTALLED = "not installed"
# Without these, BLAS threads on a busy machine wait for each other, and the time measured is that of other programs.
THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ONE_THREAD = {"MLX_LLAVA_BENCH_CLOCK": "cpu", **dict.fromkeys(THREADS, "1")}
SHARED = " Other programs were running: seconds are CPU seconds of each process, with one BLAS thread."
DISTRIBUTIONS = ("mlx-llava", "mlx", "mlx-lm", "mlx-vlm", "transformers", "torch", "peft")


@dataclass(frozen=True)
class Bench:
    """The command line of a benchmark."""

    peers: str | None
    folder: Path
    runs: int
    shared: bool
    """Measure CPU seconds with one BLAS thread, which other programs disturb less."""

    def python(self, side: str) -> str | None:
        """The interpreter of a side; None if it is not installed."""
        here = sys.executable if side in (OURS, LM, PEFT) else None
        return here if side in (OURS, PEFT) else self.peers or here


@dataclass(frozen=True)
class Finished:
    """A finished process: wall and CPU seconds, peak memory in bytes, exit code and output."""

    wall: float
    cpu: float
    peak: int
    code: int
    stdout: str
    stderr: str


def start(title: str, about: str | None, runs: int) -> Bench:
    """Parse the command line, and print the heading: the command, the machine and the versions."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment with mlx-vlm")
    parser.add_argument("--folder", type=Path, help="folder that keeps the generated checkpoints between runs")
    parser.add_argument("--runs", type=int, default=runs, help="processes per measurement, of which the fastest counts")
    parser.add_argument("--shared", action="store_true", help="CPU seconds with one BLAS thread, for a busy machine")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir(), "mlx-llava-benchmarks")
    bench = Bench(options.peers, folder, options.runs, options.shared)
    flags = ["--peers", "peers"] if options.peers else []
    flags += ["--folder", "folder"] if options.folder else []
    flags += ["--shared"] if options.shared else []
    if options.runs != runs:
        flags += ["--runs", str(options.runs)]
    print(f"## {title}\n\n`{shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *flags])}`\n")
    print(f"{machine()}; {versions(bench)}; BLAS: {Path(fast_blas()).name or 'from the MLX wheel'}.")
    print(f"Load average at the start: {os.getloadavg()[0]:.1f}.{SHARED if bench.shared else ''}\n", flush=True)
    return bench


def machine() -> str:
    """CPU, cores, memory, operating system and Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    linux = f"Linux {platform.release().partition('-')[0]}"
    system = f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else linux
    return f"{_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB, {system}, Python {platform.python_version()}"


def _cpu() -> str:
    if sys.platform == "darwin":
        return subprocess.check_output(["sysctl", "-n", "machdep.cpu.brand_string"], text=True).strip()
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def versions(bench: Bench) -> str:
    """Versions of everything that is measured."""
    script = (
        "import importlib.metadata as m, sys\n"
        "versions = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(*(f'{n} {versions.get(n, sys.argv[1])}' for n in sys.argv[2:]), sep='\\n')"
    )
    lines = run([sys.executable, "-c", script, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
    if bench.peers is not None:
        theirs = run([bench.peers, "-c", script, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
        lines = [line for line in lines if "mlx-vlm" not in line]
        new = [line for line in theirs if line not in lines and not line.endswith(NOT_INSTALLED)]
        lines += [f"peers: {line}" for line in new]
    return ", ".join(lines)


@cache
def fast_blas() -> str:
    """Path of the BLAS that this package loads for MLX; empty if none."""
    return run([sys.executable, "-c", "import mlx_llava.program.blas as b; print(*b._loaded)"]).stdout.strip()


def environment(side: str, fast: bool) -> dict[str, str]:
    """Environment variables that give a side the BLAS of this package, or with `fast=False` that of the MLX wheel."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MLX_LLAVA_FAST_BLAS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    if side == OURS:
        return clean | quiet | ({} if fast else {"MLX_LLAVA_FAST_BLAS": "0"})
    return clean | quiet | ({"LD_PRELOAD": fast_blas()} if fast and fast_blas() else {})


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


class Cell(NamedTuple):
    """One measurement: a function of a module in `sides/`, its arguments and its BLAS."""

    side: str
    task: str
    arguments: Mapping[str, Any]
    fast: bool = True
    once: bool = False  # in one process only, because it takes long


def measure(bench: Bench, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The result of each cell with the fewest `seconds`, or `{"failed": reason}`.

    Every measurement has its own process. The sides take turns, so that other programs slow all of them down equally.
    """
    results_of: list[list[dict[str, Any]]] = [[] for _ in cells]
    for n in range(bench.runs):
        for results, cell in zip(results_of, cells, strict=True):
            if not (n and cell.once):
                results.append(_measure(bench, cell))
    return [min(results, key=lambda result: result.get("seconds", 0)) for results in results_of]


def _measure(bench: Bench, cell: Cell) -> dict[str, Any]:
    python = bench.python(cell.side)
    if python is None:
        return {"failed": NOT_INSTALLED}
    command = [python, str(HERE / "worker.py"), MODULES[cell.side], cell.task, json.dumps(cell.arguments)]
    finished = run(command, environment(cell.side, cell.fast) | (ONE_THREAD if bench.shared else {}))
    if finished.code:
        return {"failed": failure(finished)}
    return json.loads(finished.stdout.splitlines()[-1])


def failure(finished: Finished) -> str:
    """Why a process failed, in one line; prints its whole stderr."""
    print(finished.stderr, file=sys.stderr)
    last = finished.stderr.strip().splitlines()[-1:] or [f"exit code {finished.code}"]
    return f"failed: {last[0][:80]}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(flush=True)


def name(side: str) -> str:
    """The name of a side in a table."""
    return f"{side} (text model)" if side == LM else side


def seconds(result: Mapping[str, Any]) -> str:
    """The seconds of a result, or why it failed."""
    return result.get("failed") or f"{result['seconds']:.2f}"


def speed(result: Mapping[str, Any], count: int) -> str:
    """`count` per second, or why the measurement failed."""
    return result.get("failed") or f"{count / result['seconds']:.2f}"
