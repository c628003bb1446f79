"""Measurements in fresh processes, and Markdown tables of them.

Imports nothing heavy: a child's memory is counted from its parent's. We run in this interpreter, the peers in the
one given by `--peers`; without it mlx-lm runs here too, for this package depends on it.
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
# Without these, on a busy machine, threads of the BLAS wait for each other and every second is the neighbours'.
THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
ONE_THREAD = {"MLX_LLAVA_BENCH_CLOCK": "cpu", **dict.fromkeys(THREADS, "1")}
SHARED = " Other programs ran meanwhile: seconds are the CPU seconds of each process, with one BLAS thread."
DISTRIBUTIONS = ("mlx-llava", "mlx", "mlx-lm", "mlx-vlm", "transformers", "torch", "peft")


@dataclass(frozen=True)
class Bench:
    """What the command line of a benchmark says."""

    peers: str | None
    folder: Path
    runs: int
    shared: bool
    """Count CPU seconds of one thread, not those that other programs take."""

    def python(self, side: str) -> str | None:
        """The interpreter of a side; None where it is not installed."""
        here = sys.executable if side in (OURS, LM, PEFT) else None
        return here if side in (OURS, PEFT) else self.peers or here


@dataclass(frozen=True)
class Ran:
    """A finished process: seconds, and bytes of memory at its peak."""

    wall: float
    cpu: float
    peak: int
    code: int
    stdout: str
    stderr: str


def start(title: str, about: str | None, runs: int) -> Bench:
    """Read the command line and print the heading: what was run, and on what."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--peers", metavar="PYTHON", help="an interpreter in which mlx-vlm is installed")
    parser.add_argument("--folder", type=Path, help="where the made checkpoints stay between runs")
    parser.add_argument("--runs", type=int, default=runs, help="processes for each measurement; the fastest counts")
    parser.add_argument("--shared", action="store_true", help="CPU seconds, one BLAS thread: for a busy machine")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.gettempdir(), "mlx-llava-benchmarks")
    bench = Bench(options.peers, folder, options.runs, options.shared)
    shown = ["--peers", "peers"] if options.peers else []
    shown += ["--folder", "folder"] if options.folder else []
    shown += ["--shared"] if options.shared else []
    if options.runs != runs:
        shown += ["--runs", str(options.runs)]
    print(f"## {title}\n\n`{shlex.join(['python', f'benchmarks/{Path(sys.argv[0]).name}', *shown])}`\n")
    print(f"{machine()}; {versions(bench)}; BLAS: {Path(fast_blas()).name or 'of the MLX wheel'}.")
    print(f"Load of the machine at the start: {os.getloadavg()[0]:.1f}.{SHARED if bench.shared else ''}\n", flush=True)
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
    """Versions of everything measured."""
    ask = (
        "import importlib.metadata as m, sys\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(*(f'{n} {have.get(n, sys.argv[1])}' for n in sys.argv[2:]), sep='\\n')"
    )
    lines = run([sys.executable, "-c", ask, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
    if bench.peers is not None:
        theirs = run([bench.peers, "-c", ask, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
        lines = [line for line in lines if "mlx-vlm" not in line]
        new = [line for line in theirs if line not in lines and not line.endswith(NOT_INSTALLED)]
        lines += [f"peers: {line}" for line in new]
    return ", ".join(lines)


@cache
def fast_blas() -> str:
    """The library that this package loads for MLX, or nothing."""
    found = run([sys.executable, "-c", "import mlx_llava.program.blas as b; print(*b._loaded)"])
    return found.stdout.strip()


def environment(side: str, fast: bool) -> dict[str, str]:
    """Variables under which a side finds the same BLAS as this package does, or MLX's own."""
    clean = {name: value for name, value in os.environ.items() if name not in ("LD_PRELOAD", "MLX_LLAVA_FAST_BLAS")}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    if side == OURS:
        return clean | quiet | ({} if fast else {"MLX_LLAVA_FAST_BLAS": "0"})
    return clean | quiet | ({"LD_PRELOAD": fast_blas()} if fast and fast_blas() else {})


def run(command: Sequence[str], env: Mapping[str, str] | None = None) -> Ran:
    """Run a command to its end."""
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        return Ran(wall, used.ru_utime + used.ru_stime, peak(used), process.returncode, out.read(), err.read())


def peak(used: resource.struct_rusage) -> int:
    """Bytes; macOS counts bytes, Linux kB."""
    return used.ru_maxrss if sys.platform == "darwin" else used.ru_maxrss * 1024


class Cell(NamedTuple):
    """What is to be measured: a function of `sides/`, with which BLAS and arguments."""

    side: str
    task: str
    arguments: Mapping[str, Any]
    fast: bool = True
    once: bool = False  # for what takes long


def measure(bench: Bench, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The measurement of each cell with the fewest `seconds`, or `{"failed": why}`.

    Every one has a process of its own, and all sides take their turns: what else the machine does hits them alike.
    """
    found: list[list[dict[str, Any]]] = [[] for _ in cells]
    for n in range(bench.runs):
        for results, cell in zip(found, cells, strict=True):
            if not (n and cell.once):
                results.append(_measure(bench, cell))
    return [min(results, key=lambda result: result.get("seconds", 0)) for results in found]


def _measure(bench: Bench, cell: Cell) -> dict[str, Any]:
    python = bench.python(cell.side)
    if python is None:
        return {"failed": NOT_INSTALLED}
    command = [python, str(HERE / "worker.py"), MODULES[cell.side], cell.task, json.dumps(cell.arguments)]
    ran = run(command, environment(cell.side, cell.fast) | (ONE_THREAD if bench.shared else {}))
    if ran.code:
        return {"failed": failure(ran)}
    return json.loads(ran.stdout.splitlines()[-1])


def failure(ran: Ran) -> str:
    """Why a process failed, in a line."""
    print(ran.stderr, file=sys.stderr)
    last = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.code}"]
    return f"failed: {last[0][:80]}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(flush=True)


def name(side: str) -> str:
    """How a side is called in a table."""
    return f"{side} (text model)" if side == LM else side


def seconds(result: Mapping[str, Any]) -> str:
    """The seconds of a measurement, or why there are none."""
    return result.get("failed") or f"{result['seconds']:.2f}"


def speed(result: Mapping[str, Any], count: int) -> str:
    """So many of something in those seconds, by the second."""
    return result.get("failed") or f"{count / result['seconds']:.2f}"
