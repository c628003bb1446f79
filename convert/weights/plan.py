"""Weights to MLX shards, some rows at a time: read, check, cast, pack, write.

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
EXPONENTS = {
    mx.float16: (mx.uint16, 0x7C00),
    mx.bfloat16: (mx.uint16, 0x7F80),
    mx.float32: (mx.uint32, 0x7F800000),
}


class Planned(NamedTuple):
    """A weight and what becomes of it."""

    name: str
    weight: Weight
    dtype: mx.Dtype
    packing: Quantization | None = None


def planned(
    weights: Mapping[str, Weight], dtype: mx.Dtype, quantized: Mapping[str, Quantization] | None = None
) -> list[Planned]:
    """Every weight in `dtype`, those of the quantized layers packed."""
    packings = {f"{path}.weight": packing for path, packing in (quantized or {}).items()}
    return [Planned(name, weight, dtype, packings.get(name)) for name, weight in weights.items()]


def outputs(plan: Sequence[Planned]) -> list[Output]:
    """What will be written, in order."""
    listed = []
    for name, weight, dtype, packing in plan:
        if packing is None:
            listed.append(Output(name, dtype, weight.shape))
            continue
        for part, rows in _pack(name, mx.zeros((1, weight.shape[-1]), dtype), packing):
            listed.append(Output(part, rows.dtype, (weight.shape[0], rows.shape[-1])))
    return listed


def write_weights(
    folder: Path,
    plan: Sequence[Planned],
    progress: Callable[[int], object] = lambda num_bytes: None,
    metadata: str = "mlx",
) -> None:
    """Read, cast, pack and write every tensor; `progress` gets the bytes written.

    Args:
        metadata: what the files say that their layout is, `mlx` or `pt`.
    """
    with Reader() as reader, Writer(folder, outputs(plan), metadata) as writer:
        for name, weight, dtype, packing in plan:
            for start, stop in pieces(weight, ROWS_BYTES):
                rows = _cast(weight, reader, (start, stop), dtype)
                for part, values in [(name, rows)] if packing is None else _pack(name, rows, packing):
                    writer.write(part, start, values)
                    progress(values.nbytes)
                mx.clear_cache()


def _pack(name: str, rows: mx.array, packing: Quantization) -> Iterator[tuple[str, mx.array]]:
    """The parts of packed rows by name: weight, scales and, in affine mode, biases."""
    path = name.removesuffix(".weight")
    packed = mx.quantize(rows, **vars(packing))
    for part, values in zip(("weight", "scales", "biases"), packed, strict=False):
        yield f"{path}.{part}", values


def _cast(weight: Weight, reader: Reader, piece: tuple[int, int], dtype: mx.Dtype) -> mx.array:
    """Rows in `dtype`; ConversionError for values that are not finite, or no longer are in `dtype`."""
    rows = weight.rows(reader, *piece)
    if dtype not in EXPONENTS:
        return rows
    cast = rows.astype(dtype)
    bits, exponent = EXPONENTS[dtype]
    if mx.max(cast.view(bits) & exponent).item() != exponent:
        return cast
    which = f"{weight.where}, rows {piece[0]} to {piece[1] - 1}"
    bad = mx.sum(~mx.isfinite(rows)).item()
    if bad:
        raise ConversionError(
            f"{which}: {bad} values are NaN or infinite", "The checkpoint is damaged; download it again."
        )
    lost = mx.sum(~mx.isfinite(cast)).item()
    kept = str(dtype).removeprefix("mlx.core.")
    raise ConversionError(f"{which}: {lost} values are too large for {kept}", "Use --dtype bfloat16 or float32.")
