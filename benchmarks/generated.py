"""The checkpoint of each side, generated on first use, and the sides that each kind of weights is measured with."""

import shutil
import sys
from pathlib import Path
from typing import Any

from harness import BEST, HERE, INT8, LLAMA_CPP, LM, MKL, OURS, TORCH, VLM, WHEEL, Bench, environment
from model import LARGE, Kind
from processes import run

OUR_BLASES = ((OURS, BEST), (OURS, MKL), (OURS, WHEEL))
QUANTIZED = ((OURS, INT8), *OUR_BLASES, (VLM, BEST), (LM, BEST), (LLAMA_CPP, BEST))
# bits: programs and their BLAS. transformers quantizes with other packages, most of them for GPUs only.
TEXT_SIDES = {
    None: (*OUR_BLASES, (VLM, BEST), (LM, BEST), (TORCH, BEST), (LLAMA_CPP, BEST)),
    16: ((TORCH, BEST),),
    8: QUANTIZED,
    4: QUANTIZED,
}
LABELS = {None: "float32", 16: "bfloat16", 8: "8 bits", 4: "4 bits"}
GGUF_TYPES = {None: "F32", 8: "Q8_0", 4: "Q4_0"}


def is_slow(side: str, blas: str, bits: int | None) -> bool:
    """Whether a side takes minutes: by the reference BLAS of MLX's wheel, or by MLX's quantized product."""
    return blas == WHEEL or (bits in (8, 4) and side in (VLM, LM))


def checkpoint(bench: Bench, kind: Kind = LARGE) -> Path:
    """The llava-hf folder."""
    folder = bench.folder / kind.name
    if not folder.exists():
        partial = bench.folder / f".{kind.name}"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        arguments = [str(partial), str(kind.layers), kind.dtype, *(["small"] * kind.small)]
        _generate([sys.executable, str(HERE / "model.py"), *arguments])  # keeps NumPy out of this process
        partial.rename(folder)
    return folder


def converted(bench: Bench, bits: int | None, kind: Kind = LARGE) -> Path:
    """The same checkpoint in our format, float32 or quantized to `bits`."""
    folder = bench.folder / f"ours-{'small-' * kind.small}{bits or 'float32'}"
    if not folder.exists():
        flags = ["--hf-path", str(checkpoint(bench, kind)), "--mlx-path", str(folder)]
        flags += ["-q", "--q-bits", str(bits)] if bits else []
        _generate([sys.executable, "-m", "mlx_llava.convert", *flags])
    return folder


def gguf(bench: Bench, bits: int | None) -> Path:
    """A text model of the same shape as GGUF, float32 or quantized to `bits`."""
    file = bench.folder / f"{GGUF_TYPES[bits]}.gguf"
    if not file.exists() and (python := bench.python(LLAMA_CPP)):
        partial = file.with_suffix(".partial")
        _generate([python, str(HERE / "gguf_model.py"), str(partial), GGUF_TYPES[bits]])
        partial.rename(file)
    return file


def _generate(command: list[str]) -> None:
    finished = run(command, environment(OURS))
    if finished.code:
        sys.exit(finished.stderr)


def weights(bench: Bench, side: str, bits: int | None, kind: Kind = LARGE) -> dict[str, Any]:
    """Arguments that name a side's checkpoint. mlx-vlm and mlx-lm quantize theirs while loading."""
    if side == OURS:
        return {"folder": str(converted(bench, bits, kind))}
    if side == LLAMA_CPP:
        return {"folder": str(gguf(bench, bits))}
    return {"folder": str(checkpoint(bench, kind)), "bits": bits}
