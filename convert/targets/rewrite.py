"""A converted folder made from another: the same model with some weights changed, everything else carried over."""

import json
from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.weights.algebra import Held, Stored
from mlx_llava.convert.weights.output_folder import appearing
from mlx_llava.convert.weights.plan import DTYPES, Planned, outputs, write_weights
from mlx_llava.convert.weights.writer import SPELLED

DTYPE_OF = {spelled: dtype for dtype, spelled in SPELLED.items()}


def rewrite(
    base: Checkpoint,
    config: LlavaConfig,
    weights: Mapping[str, mx.array],
    target: Path,
    *,
    dtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the model of `base` to `target` with these weights in the place of its own; whole or not at all.

    Args:
        config: the base's, where text and pictures may become input in another way.
        dtype: of the changed weights, instead of the base's.

    Raises ConversionError for a value that is not finite, or no longer is in the dtype.
    """
    tensors = read_index(base.folder)
    plan = [_planned(tensor, weights.get(name), dtype) for name, tensor in tensors.items()]
    with appearing(target, overwrite, sum(output.num_bytes for output in outputs(plan))) as folder:
        (folder / "config.json").write_text(json.dumps(_values(base, config), indent=1) + "\n", encoding="utf-8")
        (folder / "tokenizer.json").write_bytes((base.folder / "tokenizer.json").read_bytes())
        told = f"{len(weights)} of the {len(tensors)} tensors of {base.folder.name} trained\n"
        (folder / "README.md").write_text(f"# Tuned by mlx-llava {__version__}\n\n- {told}", encoding="utf-8")
        write_weights(folder, plan)


def _planned(tensor: Tensor, weight: mx.array | None, dtype: str | None) -> Planned:
    """What becomes of one tensor: copied as it stands, packed ones too, or written from memory."""
    kept = DTYPE_OF[tensor.dtype]
    if weight is None:
        return Planned(tensor.name, Stored(tensor), kept)
    return Planned(tensor.name, Held(tensor.name, weight), DTYPES[dtype] if dtype else kept)


def _values(base: Checkpoint, config: LlavaConfig) -> dict[str, object]:
    """The base's config.json with what `config` says."""
    before, values = read_json(base.folder / "config.json"), to_hf(config)
    values["mlx_llava"]["source"] = {"name": base.folder.name, "of": before["mlx_llava"].get("source")}
    return {**before, **values}
