"""Seconds and peak memory of converting 2 GB of float16 weights to 4 bits.

Each side runs its own command line. mlx-lm drops the vision tower; the others copy it unquantized.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from generated import checkpoint
from harness import LM, NOT_INSTALLED, OURS, VLM, Bench, environment, name, start, table
from model import Kind
from processes import Finished, failure, run

KIND = Kind(layers=14, dtype="float16")
MODULES = {OURS: ["mlx_llava.convert"], VLM: ["mlx_vlm.convert"], LM: ["mlx_lm", "convert"]}
LIMIT = 200  # MB above an interpreter that has imported MLX


def main() -> None:
    bench = start("Converting", __doc__, runs=3)
    source = checkpoint(bench, KIND)
    empty = min(run([sys.executable, "-c", "import mlx.core, mlx.nn"]).peak for _ in range(3))
    size = (source / "model.safetensors").stat().st_size
    print(f"{size / 1e9:.2f} GB read, from the file cache.")
    print(f"An interpreter with MLX imported takes {empty / 1e6:.0f} MB; the limit for {OURS} is {LIMIT} MB more.\n")
    head = ("program", "seconds", "CPU seconds", "GB written", "peak memory above the interpreter, MB")
    table(head, conversions(bench, source, empty))


def conversions(bench: Bench, source: Path, empty: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table; the sides take turns, as in `harness.measure`."""
    runs: dict[str, list[Finished]] = {side: [] for side in MODULES}
    sizes: dict[str, int] = {}
    for side in [*MODULES] * bench.runs:
        if python := bench.python(side):
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                flags = ["--hf-path", str(source), "--mlx-path", f"{folder}/to", "-q", "--q-bits", "4"]
                runs[side].append(run([python, "-m", *MODULES[side], *flags], environment(side)))
                sizes[side] = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
    for side, results in runs.items():
        yield name(side), *(row(results, sizes[side], empty) if results else (NOT_INSTALLED, "", "", ""))


def row(runs: list[Finished], size: int, empty: int) -> tuple[str, ...]:
    """The cells of one side, or why a run of it failed."""
    for finished in runs:
        if finished.code:
            return failure(finished), "", "", ""
    wall, cpu, peak = (median(getattr(finished, key) for finished in runs) for key in ("wall", "cpu", "peak"))
    return f"{wall:.1f}", f"{cpu:.1f}", f"{size / 1e9:.2f}", f"{(peak - empty) / 1e6:.0f}"


if __name__ == "__main__":
    main()
