"""A converted folder with some weights replaced, everything else copied."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import read_json
from mlx_llava.config import Dtype, LlavaConfig
from mlx_llava.convert.weights.algebra import FileTensor, InMemory
from mlx_llava.convert.weights.output_folder import appearing, card, write_files
from mlx_llava.convert.weights.plan import DTYPES, Planned, size_of, write_weights
from mlx_llava.convert.weights.writer import DTYPES as FILE_DTYPES


def rewrite(
    base: Checkpoint,
    config: LlavaConfig,
    weights: Mapping[str, mx.array],
    target: Path,
    *,
    dtype: Dtype | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model of `base` to `target` with `weights` instead of its own; whole or not at all.

    Args:
        config: the base's; template and image fit may differ.
        dtype: of the new weights; the base's by default.

    Raises ConversionError for a value that is not finite, also after the cast.
    """
    tensors = read_index(base.folder)
    plan = [_planned(tensor, weights.get(name), dtype) for name, tensor in tensors.items()]
    with appearing(target, overwrite, size_of(plan)) as folder:
        line = f"{len(weights)} of the {len(tensors)} tensors of {base.folder.name} trained"
        readme = card(f"Trained by mlx-llava {__version__}", [line])
        write_files(folder, _values(base, config), (base.folder / "tokenizer.json").read_bytes(), readme)
        write_weights(folder, plan)


def _planned(tensor: Tensor, weight: mx.array | None, dtype: str | None) -> Planned:
    """One tensor: copied, quantized ones too, or written from memory."""
    own = FILE_DTYPES[tensor.dtype]
    if weight is None:
        return Planned(tensor.name, FileTensor(tensor), own)
    return Planned(tensor.name, InMemory(tensor.name, weight), DTYPES[dtype] if dtype else own)


def _values(base: Checkpoint, config: LlavaConfig) -> dict[str, object]:
    """The base's config.json, updated from `config`."""
    before, values = read_json(base.folder / "config.json"), to_hf(config)
    values["mlx_llava"]["source"] = {"name": base.folder.name, "of": before["mlx_llava"].get("source")}
    return {**before, **values}
