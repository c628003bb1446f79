"""Weights to MLX shards, a few rows at a time: read, check, cast, quantize, write.

Peak memory is a few megabytes of rows, whatever the size of the model.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import mlx.core as mx

from mlx_llava.checkpoint.quantization import Quantization
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.weights.algebra import Weight, pieces
from mlx_llava.convert.weights.writer import Output, Writer
from mlx_llava.errors import ConversionError

ROWS_BYTES = 16 * 2**20  # of a tensor in memory at a time, in float32
DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
# Bits of the exponent: all set in NaN and infinity. On the CPU, 30 times as fast as mx.isfinite of half precision.
EXPONENTS = {mx.float16: (mx.uint16, 0x7C00), mx.bfloat16: (mx.uint16, 0x7F80), mx.float32: (mx.uint32, 0x7F800000)}
OnBytes = Callable[[int, int], object]  # called after each write with its bytes, and those of the whole plan


def ignore(num_bytes: int, total: int) -> None:
    """Show no progress."""


class Planned(NamedTuple):
    """A weight and the form to write it in."""

    name: str
    weight: Weight
    dtype: mx.Dtype
    quantization: Quantization | None = None


def plan_weights(weights: Mapping[str, Weight], dtype: mx.Dtype, table: Mapping[str, Quantization]) -> list[Planned]:
    """Every weight in `dtype`; that of a layer whose path is in `table` is quantized from it."""
    by_name = {f"{path}.weight": quantization for path, quantization in table.items()}
    return [Planned(name, weight, dtype, by_name.get(name)) for name, weight in weights.items()]


def outputs(plan: Sequence[Planned]) -> list[Output]:
    """The tensors to be written, in order."""
    listed = []
    for name, weight, dtype, quantization in plan:
        if quantization is None:
            listed.append(Output(name, dtype, weight.shape))
            continue
        for part, rows in _quantize(name, mx.zeros((1, weight.shape[-1]), dtype), quantization):
            listed.append(Output(part, rows.dtype, (weight.shape[0], rows.shape[-1])))
    return listed


def size_of(plan: Sequence[Planned]) -> int:
    """Bytes to be written."""
    return sum(output.num_bytes for output in outputs(plan))


def write_weights(folder: Path, plan: Sequence[Planned], progress: OnBytes = ignore, metadata: str = "mlx") -> None:
    """Read, cast, quantize and write every tensor; `metadata` is the `format` in the files, `mlx` or `pt`."""
    total = size_of(plan)
    with Reader() as reader, Writer(folder, outputs(plan), metadata) as writer:
        for name, weight, dtype, quantization in plan:
            for start, stop in pieces(weight, ROWS_BYTES):
                rows = _cast(weight, reader, (start, stop), dtype)
                for part, values in [(name, rows)] if quantization is None else _quantize(name, rows, quantization):
                    writer.write(part, start, values)
                    progress(values.nbytes, total)
                mx.clear_cache()


def _quantize(name: str, rows: mx.array, quantization: Quantization) -> Iterator[tuple[str, mx.array]]:
    """The parts of quantized rows by name: weight, scales and, in affine mode, biases."""
    path = name.removesuffix(".weight")
    parts = mx.quantize(rows, **vars(quantization))
    for part, values in zip(("weight", "scales", "biases"), parts, strict=False):
        yield f"{path}.{part}", values


def _cast(weight: Weight, reader: Reader, piece: tuple[int, int], dtype: mx.Dtype) -> mx.array:
    """Rows in `dtype`; ConversionError for values that are not finite, in the file or in `dtype`."""
    rows = weight.rows(reader, *piece)
    if dtype not in EXPONENTS:
        return rows
    cast = rows.astype(dtype)
    bits, exponent = EXPONENTS[dtype]
    if mx.max(cast.view(bits) & exponent).item() != exponent:
        return cast
    which = f"{weight.where}, rows {piece[0]} to {piece[1] - 1}"
    if bad := mx.sum(~mx.isfinite(rows)).item():
        advice = "The checkpoint is damaged; download it again."
        raise ConversionError(f"{which}: {bad} values are NaN or infinite", advice)
    overflows = mx.sum(~mx.isfinite(cast)).item()
    target = str(dtype).removeprefix("mlx.core.")
    raise ConversionError(f"{which}: {overflows} values are too large for {target}", "Use --dtype bfloat16 or float32.")
