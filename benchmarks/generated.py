"""The checkpoint of each side, generated on first use."""

import shutil
import sys
from pathlib import Path
from typing import Any

from harness import HERE, OURS, Bench, environment, run
from model import LARGE, Kind


def checkpoint(bench: Bench, kind: Kind = LARGE) -> Path:
    """The llava-hf folder, generated on first use."""
    folder = bench.folder / kind.name
    if not folder.exists():
        partial = bench.folder / f".{kind.name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        arguments = [str(partial), str(kind.layers), kind.dtype, *(["small"] * kind.small)]
        finished = run([sys.executable, str(HERE / "model.py"), *arguments])  # keeps NumPy out of this process
        if finished.code:
            sys.exit(finished.stderr)
        partial.rename(folder)
    return folder


def converted(bench: Bench, bits: int | None, kind: Kind = LARGE) -> Path:
    """The same checkpoint in our format, float32 or quantized to `bits`, converted on first use."""
    folder = bench.folder / f"ours-{'small-' * kind.small}{bits or 'float32'}"
    if not folder.exists():
        flags = ["--hf-path", str(checkpoint(bench, kind)), "--mlx-path", str(folder)]
        flags += ["-q", "--q-bits", str(bits)] if bits else []
        finished = run([sys.executable, "-m", "mlx_llava.convert", *flags], environment(OURS))
        if finished.code:
            sys.exit(finished.stderr)
    return folder


def weights(bench: Bench, side: str, bits: int | None, kind: Kind = LARGE) -> dict[str, Any]:
    """Arguments that name a side's checkpoint: ours is converted; the peers quantize theirs while loading."""
    if side == OURS:
        return {"folder": str(converted(bench, bits, kind))}
    return {"folder": str(checkpoint(bench, kind)), "bits": bits}
