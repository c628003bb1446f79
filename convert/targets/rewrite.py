"""A converted folder with some weights replaced, everything else copied."""

from collections.abc import Mapping
from pathlib import Path

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.checkpoint.reader import read_index
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
    plan = []
    for name, tensor in tensors.items():
        own = FILE_DTYPES[tensor.dtype]
        if name in weights:
            plan.append(Planned(name, InMemory(name, weights[name]), DTYPES[dtype] if dtype else own))
        else:  # copied, quantized ones too
            plan.append(Planned(name, FileTensor(tensor), own))
    before, after = read_json(base.folder / "config.json"), to_hf(config)
    after["mlx_llava"]["source"] = {"name": base.folder.name, "of": before["mlx_llava"].get("source")}
    values = {**before, **after}
    with appearing(target, overwrite, size_of(plan)) as folder:
        line = f"{len(weights)} of the {len(tensors)} tensors of {base.folder.name} trained"
        readme = card(f"Trained by mlx-llava {__version__}", [line])
        write_files(folder, values, (base.folder / "tokenizer.json").read_bytes(), readme)
        write_weights(folder, plan)
