"""Run measurements in fresh processes and print them as Markdown tables.

A figure is the median over processes of the median of a process's steps. This package and torch run in this
interpreter, the other peers in that of `--peers`; mlx-lm, on which the package depends, in this one without `--peers`.
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from processes import failure, run

HERE = Path(__file__).resolve().parent
OURS, VLM, LM, LLAMA_CPP = "mlx-llava", "mlx-vlm", "mlx-lm", "llama.cpp"
PEFT, TORCH = "torch + peft", "torch"
MODULES = {  # in sides/
    OURS: "ours",
    VLM: "vlm",
    LM: "lm",
    LLAMA_CPP: "llamacpp",
    PEFT: "torch_peft",
    TORCH: "pytorch",
}
HERE_TOO = (OURS, PEFT, TORCH)  # sides that run in this interpreter
BEST, MKL, WHEEL = "best", "MKL", "wheel's"  # BLAS: what a side uses by itself, MKL, that of the MLX wheel
INT8 = "8-bit activations"  # the best one, and activations rounded in products with quantized weights
NOT_INSTALLED = "not installed"
# Without these, BLAS threads on a busy machine wait for each other, and the time measured is that of other programs.
THREADS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
BLAS_SWITCH, INT8_SWITCH = "MLX_LLAVA_FAST_BLAS", "MLX_LLAVA_INT8"
FORCED = ("OPENBLAS_", "LD_PRELOAD", BLAS_SWITCH, INT8_SWITCH)
QUIET = {"TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
ONE_THREAD = {"MLX_LLAVA_BENCH_CLOCK": "cpu", **dict.fromkeys(THREADS, "1")}
SECONDS = {True: "CPU seconds of one thread", False: "wall seconds, on all cores"}
DISTRIBUTIONS = ("mlx-llava", "mlx", "mlx-lm", "mlx-vlm", "transformers", "torch", "peft", "llama-cpp-python")


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
        here = sys.executable if side in (*HERE_TOO, LM) else None
        return here if side in HERE_TOO else self.peers or here


def start(title: str, about: str | None, runs: int) -> Bench:
    """Parse the command line, and print the heading: the command, the machine and the versions."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--peers", metavar="PYTHON", help="interpreter of an environment with the peers")
    parser.add_argument("--folder", type=Path, help="folder that keeps the generated checkpoints between runs")
    parser.add_argument("--runs", type=int, default=runs, help="processes per measurement")
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
    print(f"{machine()}; {versions(bench)}.")
    print(f"Medians, {SECONDS[bench.shared]}; load average at the start: {os.getloadavg()[0]:.1f}.\n", flush=True)
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
        "versions = {d.metadata['Name'].lower().replace('_', '-'): d.version for d in m.distributions()}\n"
        "print(*(f'{n} {versions.get(n, sys.argv[1])}' for n in sys.argv[2:]), sep='\\n')"
    )
    lines = run([sys.executable, "-c", script, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
    if bench.peers is not None:
        theirs = run([bench.peers, "-c", script, NOT_INSTALLED, *DISTRIBUTIONS]).stdout.splitlines()
        lines = [line for line in lines if not line.endswith(NOT_INSTALLED)]
        new = [line for line in theirs if line not in lines and not line.endswith(NOT_INSTALLED)]
        lines += [f"peers: {line}" for line in new]
    return ", ".join(lines)


@cache
def mkl() -> str:
    """Path of MKL in this interpreter's environment; empty if it is not installed."""
    return max(map(str, Path(sys.prefix, "lib").glob("libmkl_rt.so*")), default="")


def environment(side: str, blas: str = BEST) -> dict[str, str]:
    """Environment variables that give a side its BLAS. mlx-vlm and mlx-lm have none of their own: MKL is preloaded.

    Variables that force OpenBLAS to other kernels are dropped.
    """
    ours = {BEST: {}, MKL: {BLAS_SWITCH: mkl()}, WHEEL: {BLAS_SWITCH: "0"}, INT8: {INT8_SWITCH: "1"}}
    peers = {BEST: {"LD_PRELOAD": mkl()} if mkl() else {}, WHEEL: {}}
    clean = {name: value for name, value in os.environ.items() if not name.startswith(FORCED)}
    chosen = ours[blas] if side == OURS else peers[blas] if side in (VLM, LM) else {}
    return clean | QUIET | chosen


@cache
def blas_name(side: str, blas: str) -> str:
    """The file of the BLAS that we choose, otherwise a word."""
    if side not in (OURS, VLM, LM):
        return "its own"
    if blas == INT8:
        return f"{blas_name(side, BEST)}, {INT8}"
    if side == OURS and blas == BEST:
        script = "import mlx_llava; from mlx_llava.program.blas import name_of_blas; print(name_of_blas())"
        return Path(run([sys.executable, "-c", script], environment(OURS)).stdout.strip()).name
    return MKL if blas == MKL or (blas == BEST and mkl()) else WHEEL


class Cell(NamedTuple):
    """One measurement: a function of a module in `sides/`, its arguments and its BLAS."""

    side: str
    task: str
    arguments: Mapping[str, Any]
    blas: str = BEST
    once: bool = False  # in one process only, because it takes long

    @property
    def blas_name(self) -> str:
        """The BLAS in a table."""
        return blas_name(self.side, self.blas)


def measure(bench: Bench, cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """The result of each cell with the median of `seconds`, or `{"failed": reason}`."""
    return list(map(_median, measure_all(bench, cells)))


def measure_all(bench: Bench, cells: Sequence[Cell]) -> list[list[dict[str, Any]]]:
    """The results of every process of each cell, with the peak memory of the process, or `{"failed": reason}`.

    Every measurement has its own process. The sides take turns, so that other programs slow all of them down equally.
    """
    results_of: list[list[dict[str, Any]]] = [[] for _ in cells]
    for n in range(bench.runs):
        for results, cell in zip(results_of, cells, strict=True):
            if not (n and cell.once):
                results.append(_measure(bench, cell))
    return results_of


def _median(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    failed = [result for result in results if "failed" in result]
    return failed[0] if failed else sorted(results, key=lambda result: result["seconds"])[(len(results) - 1) // 2]


def _measure(bench: Bench, cell: Cell) -> dict[str, Any]:
    python = bench.python(cell.side)
    if python is None or (cell.blas == MKL and not mkl()):
        return {"failed": NOT_INSTALLED}
    command = [python, str(HERE / "worker.py"), MODULES[cell.side], cell.task, json.dumps(cell.arguments)]
    finished = run(command, environment(cell.side, cell.blas) | (ONE_THREAD if bench.shared else {}))
    if finished.code:
        return {"failed": failure(finished)}
    return json.loads(finished.stdout.splitlines()[-1]) | {"process": finished.peak}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table."""
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)
    print(flush=True)


def name(side: str) -> str:
    """The name of a side in a table."""
    return f"{side} (text model)" if side in (LM, LLAMA_CPP) else side


def seconds(result: Mapping[str, Any]) -> str:
    """The seconds of a result, or why it failed."""
    return result.get("failed") or f"{result['seconds']:.2f}"


def speed(result: Mapping[str, Any], count: int) -> str:
    """`count` per second, or why the measurement failed."""
    return result.get("failed") or f"{count / result['seconds']:.2f}"
