"""Weights from one checkpoint folder to MLX shards, tensor by tensor.

Everything that can be known from headers is checked before a value is read; peak memory is a few megabytes
of rows, whatever the size of the model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import mlx.core as mx

from mlx_llava.checkpoint import FLOATS, Quantization, check_coverage, parameter_shapes, read_array
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.names import TOWER_RULES, plan
from mlx_llava.convert.writer import Output, Writer
from mlx_llava.errors import CheckpointError, ConversionError
from mlx_llava.models.llava import Llava
from mlx_llava.shards import Reader, Tensor

ROWS_BYTES = 16 * 2**20  # of a tensor in memory at a time
CONVOLUTION = "vision_tower.embeddings.patch_embedding.weight"  # [out, in, h, w] in torch, [out, h, w, in] in MLX
EMBEDDING, HEAD = "language_model.embed_tokens.weight", "language_model.lm_head.weight"
DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
STORED = {"F16": mx.float16, "BF16": mx.bfloat16, "F32": mx.float32, "F64": mx.float32}
# Bits of the exponent: all set in NaN and infinity. On the CPU, 30 times as fast as mx.isfinite of half precision.
EXPONENTS = {
    mx.float16: (mx.uint16, 0x7C00),
    mx.bfloat16: (mx.uint16, 0x7F80),
    mx.float32: (mx.uint32, 0x7F800000),
}


@dataclass(frozen=True)
class Source:
    """A checkpoint whose every tensor has its place."""

    config: LlavaConfig
    tensors: Mapping[str, Tensor]  # by our names
    dropped: int
    repeated_head: Tensor | None  # of a checkpoint that ties its head to the embedding and stores it all the same

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the language model's weights."""
        return STORED[self.tensors[EMBEDDING].dtype]

    @property
    def num_bytes(self) -> int:
        """Bytes to be read."""
        return sum(tensor.num_bytes for tensor in self.tensors.values())


def survey(config: LlavaConfig, theirs: Mapping[str, Tensor], tower: Mapping[str, Tensor], where: str) -> Source:
    """Find every tensor of the model among those of the checkpoint; reads no values.

    A tower inside the checkpoint is preferred to the tensors of `tower`: it may have been tuned. Raises
    ConversionError for a tensor without a rule, CheckpointError for missing, extra or mis-shaped ones.
    """
    found = {ours: theirs[name] for ours, name in plan(theirs).items()}
    repeated_head = found.pop(HEAD, None) if config.text.tie_word_embeddings else None
    dropped = len(theirs) - len(found)
    if not any(name.startswith("vision_tower.") for name in found):
        found |= {ours: tower[name] for ours, name in plan(tower, TOWER_RULES).items()}
    for tensor in found.values():
        if tensor.dtype not in STORED:
            raise CheckpointError(
                f"{where}: {tensor.name} is {tensor.dtype}, not a weight", "Save the checkpoint in float16 or float32."
            )
    check_coverage(parameter_shapes(Llava(config)), {n: _as_ours(n, t) for n, t in found.items()}, where)
    return Source(config, found, dropped, repeated_head)


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """The tensor in MLX's layout, with a dtype that a converted folder may have."""
    shape = tensor.shape
    if name == CONVOLUTION and len(shape) == 4:
        shape = (shape[0], shape[2], shape[3], shape[1])
    return replace(tensor, shape=shape, dtype=tensor.dtype if tensor.dtype in FLOATS else "F32")


def outputs(source: Source, dtype: mx.Dtype, quantized: Mapping[str, Quantization]) -> list[Output]:
    """What will be written, in order."""
    listed = []
    for name, tensor in source.tensors.items():
        shape = _as_ours(name, tensor).shape
        packing = _packing(name, quantized)
        if packing is None:
            listed.append(Output(name, dtype, shape))
            continue
        for part, rows in _pack(name, mx.zeros((1, shape[-1]), dtype), packing):
            listed.append(Output(part, rows.dtype, (shape[0], rows.shape[-1])))
    return listed


def write_weights(
    folder: Path,
    source: Source,
    dtype: mx.Dtype,
    quantized: Mapping[str, Quantization],
    progress: Callable[[int], object],
) -> None:
    """Read, cast, pack and write every tensor, some rows at a time; `progress` gets the bytes read."""
    with Reader() as reader, Writer(folder, outputs(source, dtype, quantized)) as writer:
        if source.repeated_head is not None:
            _check_head(reader, source.tensors[EMBEDDING], source.repeated_head)
        for name, tensor in source.tensors.items():
            packing = _packing(name, quantized)
            for start, stop in _pieces(tensor):
                rows = _cast(reader, tensor, start, stop, dtype)
                if name == CONVOLUTION:
                    rows = mx.contiguous(rows.transpose(0, 2, 3, 1))
                for part, values in [(name, rows)] if packing is None else _pack(name, rows, packing):
                    writer.write(part, start, values)
                mx.clear_cache()
                progress(tensor.num_bytes // tensor.num_rows * (stop - start))


def _pieces(tensor: Tensor) -> Iterator[tuple[int, int]]:
    rows = tensor.num_rows
    step = max(1, ROWS_BYTES * rows // tensor.num_bytes)
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _packing(name: str, quantized: Mapping[str, Quantization]) -> Quantization | None:
    path, _, kind = name.rpartition(".")
    return quantized.get(path) if kind == "weight" else None


def _pack(name: str, rows: mx.array, packing: Quantization) -> Iterator[tuple[str, mx.array]]:
    """The parts of packed rows by name: weight, scales and, in affine mode, biases."""
    path = name.removesuffix(".weight")
    packed = mx.quantize(rows, **vars(packing))
    for part, values in zip(("weight", "scales", "biases"), packed, strict=False):
        yield f"{path}.{part}", values


def _cast(reader: Reader, tensor: Tensor, start: int, stop: int, dtype: mx.Dtype) -> mx.array:
    """Rows in `dtype`; ConversionError for values that are not finite, or no longer are in `dtype`."""
    rows = read_array(reader, tensor, start, stop)
    cast = rows.astype(dtype)
    bits, exponent = EXPONENTS[dtype]
    if mx.max(cast.view(bits) & exponent).item() != exponent:
        return cast
    which = f"{tensor.file}: {tensor.name}, rows {start} to {stop - 1}"
    bad = mx.sum(~mx.isfinite(rows)).item()
    if bad:
        raise ConversionError(
            f"{which}: {bad} values are NaN or infinite", "The checkpoint is damaged; download it again."
        )
    lost = mx.sum(~mx.isfinite(cast)).item()
    kept = str(dtype).removeprefix("mlx.core.")
    raise ConversionError(f"{which}: {lost} values are too large for {kept}", "Use --dtype bfloat16 or float32.")


def _check_head(reader: Reader, embedding: Tensor, head: Tensor) -> None:
    """Raise CheckpointError unless the head repeats the embedding: what is dropped must not change an answer."""

    def repeats(start: int, stop: int) -> bool:
        ours, theirs = (read_array(reader, tensor, start, stop) for tensor in (embedding, head))
        return bool(mx.array_equal(ours, theirs).item())

    if head.shape != embedding.shape or not all(repeats(*piece) for piece in _pieces(embedding)):
        raise CheckpointError(
            f"{head.file}: {head.name} is not the embedding, though config.json ties them",
            "Set tie_word_embeddings to false in config.json.",
        )
