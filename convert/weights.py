"""Weights from one checkpoint folder to MLX shards, tensor by tensor.

Everything that can be known from headers is checked before a value is read; peak memory is a few megabytes
of rows, whatever the size of the model.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint import FLOATS, Quantization, check_coverage, load_tokenizer, parameter_shapes, read_array
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.names import TOWER_RULES, plan
from mlx_llava.convert.vocabulary import write_tokenizer
from mlx_llava.convert.writer import Output, Writer
from mlx_llava.dialects import to_hf
from mlx_llava.errors import CheckpointError, ConversionError
from mlx_llava.models.llava import Llava
from mlx_llava.shards import Reader, Tensor, read_index

ROWS_BYTES = 16 * 2**20  # of a tensor in memory at a time
CONVOLUTION = "vision_tower.embeddings.patch_embedding.weight"  # [out, in, h, w] in torch, [out, h, w, in] in MLX
DTYPES = {"float16": mx.float16, "bfloat16": mx.bfloat16, "float32": mx.float32}
STORED = {"F16": mx.float16, "BF16": mx.bfloat16, "F32": mx.float32, "F64": mx.float32}


@dataclass(frozen=True)
class Source:
    """A checkpoint whose every tensor has its place."""

    config: LlavaConfig
    tensors: Mapping[str, Tensor]  # by our names
    dropped: int

    @property
    def dtype(self) -> mx.Dtype:
        """The dtype of the language model's weights."""
        return STORED[self.tensors["language_model.embed_tokens.weight"].dtype]


def survey(config: LlavaConfig, theirs: Mapping[str, Tensor], tower: Mapping[str, Tensor], where: str) -> Source:
    """Find every tensor of the model among those of the checkpoint; reads no values.

    A tower inside the checkpoint is preferred to the tensors of `tower`: it may have been tuned. Raises
    ConversionError for a tensor without a rule, CheckpointError for missing, extra or mis-shaped ones.
    """
    found = {ours: theirs[name] for ours, name in plan(theirs, tied=config.text.tie_word_embeddings).items()}
    dropped = len(theirs) - len(found)
    if not any(name.startswith("vision_tower.") for name in found):
        found |= {ours: tower[name] for ours, name in plan(tower, TOWER_RULES).items()}
    for name, tensor in found.items():
        if tensor.dtype not in STORED:
            raise CheckpointError(
                f"{where}: {name} is {tensor.dtype}, not a weight", "Save the checkpoint in float16 or float32."
            )
    check_coverage(parameter_shapes(Llava(config)), {n: _as_float(n, t) for n, t in found.items()}, where)
    return Source(config, found, dropped)


def _as_float(name: str, tensor: Tensor) -> Tensor:
    shape = tensor.shape
    if name == CONVOLUTION and len(shape) == 4:
        shape = (shape[0], shape[2], shape[3], shape[1])
    return replace(tensor, shape=shape, dtype=tensor.dtype if tensor.dtype in FLOATS else "F32")


def outputs(source: Source, dtype: mx.Dtype, quantized: Mapping[str, Quantization]) -> list[Output]:
    """What will be written, in order."""
    listed = []
    for name, tensor in source.tensors.items():
        path, _, kind = name.rpartition(".")
        shape = _as_float(name, tensor).shape
        if kind == "weight" and path in quantized:
            packed = mx.quantize(mx.zeros((1, shape[-1]), dtype), **vars(quantized[path]))
            for part, rows in zip(("weight", "scales", "biases"), packed, strict=False):
                listed.append(Output(f"{path}.{part}", rows.dtype, (shape[0], rows.shape[-1])))
        else:
            listed.append(Output(name, dtype, shape))
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
        for name, tensor in source.tensors.items():
            path, _, kind = name.rpartition(".")
            packing = quantized.get(path) if kind == "weight" else None
            for start, stop in _pieces(tensor):
                rows = _cast(read_array(reader, tensor, start, stop), name, dtype)
                if name == CONVOLUTION:
                    rows = mx.contiguous(rows.transpose(0, 2, 3, 1))
                if packing is None:
                    writer.write(name, start, rows)
                else:
                    packed = mx.quantize(rows, **vars(packing))
                    for part, values in zip(("weight", "scales", "biases"), packed, strict=False):
                        writer.write(f"{path}.{part}", start, values)
                mx.clear_cache()
                progress(tensor.num_bytes * (stop - start) // max(tensor.num_rows, 1))


def _pieces(tensor: Tensor) -> Iterator[tuple[int, int]]:
    rows = tensor.num_rows
    step = max(1, ROWS_BYTES * rows // max(tensor.num_bytes, 1))
    for start in range(0, rows, step):
        yield start, min(start + step, rows)


def _cast(rows: mx.array, name: str, dtype: mx.Dtype) -> mx.array:
    """Rows in `dtype`; ConversionError for values that are not finite, or no longer are in `dtype`."""
    bad = mx.sum(~mx.isfinite(rows)).item()
    if bad:
        raise ConversionError(
            f"{name}: {bad} values are NaN or infinite", "The checkpoint is damaged; download it again."
        )
    cast = rows.astype(dtype)
    lost = mx.sum(~mx.isfinite(cast)).item()
    if lost:
        raise ConversionError(f"{name}: {lost} values are too large for float16", "Use --dtype bfloat16.")
    return cast
