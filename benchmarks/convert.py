"""Converting 2 GB of float16 weights to 4 bits: seconds, and memory at the peak.

Each side is its own command line. mlx-lm leaves the tower out; the others copy it as it is.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness import LM, NOT_INSTALLED, OURS, VLM, Bench, Ran, environment, failure, name, run, start, table
from model import Kind, checkpoint

KIND = Kind(layers=14, dtype="float16")
MODULES = {OURS: ["mlx_llava.convert"], VLM: ["mlx_vlm.convert"], LM: ["mlx_lm", "convert"]}
PROMISED = 200  # MB above an interpreter that has MLX imported


def main() -> None:
    """Print the table."""
    bench = start("Converting", __doc__, runs=2)
    source = checkpoint(bench, KIND)
    empty = min(run([sys.executable, "-c", "import mlx.core, mlx.nn"]).peak for _ in range(3))
    size = (source / "model.safetensors").stat().st_size
    print(f"{size / 1e9:.2f} GB read, from the file cache; fastest and smallest of {bench.runs}.")
    print(f"An interpreter that has MLX imported takes {empty / 1e6:.0f} MB; {OURS} promises {PROMISED} MB above it.\n")
    head = ("program", "seconds", "CPU seconds", "written, GB", "peak memory above the interpreter, MB")
    table(head, conversions(bench, source, empty))


def conversions(bench: Bench, source: Path, empty: int) -> Iterator[tuple[str, ...]]:
    """Rows of the table; all sides take their turns, as in `harness.measure`."""
    ran: dict[str, list[Ran]] = {side: [] for side in MODULES}
    sizes: dict[str, int] = {}
    for side in [*MODULES] * bench.runs:
        if python := bench.python(side):
            with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
                names = ["--hf-path", str(source), "--mlx-path", f"{folder}/to", "-q", "--q-bits", "4"]
                ran[side].append(run([python, "-m", *MODULES[side], *names], environment(side, True)))
                sizes[side] = sum(file.stat().st_size for file in Path(folder).rglob("*.safetensors"))
    for side, results in ran.items():
        yield name(side), *(row(results, sizes[side], empty) if results else (NOT_INSTALLED, "", "", ""))


def row(ran: list[Ran], size: int, empty: int) -> tuple[str, ...]:
    """What a side's conversions took."""
    for one in ran:
        if one.code:
            return failure(one), "", "", ""
    wall, cpu, peak = (min(getattr(one, key) for one in ran) for key in ("wall", "cpu", "peak"))
    return f"{wall:.1f}", f"{cpu:.1f}", f"{size / 1e9:.2f}", f"{(peak - empty) / 1e6:.0f}"


if __name__ == "__main__":
    main()
