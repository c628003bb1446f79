"""A converted folder and the model in it. Converts nothing and is strict both ways.

Every tensor the config asks for must be there in its shape, and nothing else may be.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.safetensors import Reader, Tensor, check_unchanged, read_index
from mlx_llava.checkpoint.strict_json import Section, read_json, short
from mlx_llava.config import LlavaConfig
from mlx_llava.errors import CheckpointError, ConfigError, LimitError, ModelError
from mlx_llava.models import backend
from mlx_llava.models.llava import Llava
from mlx_llava.prompts.tokens import Tokenizer

FLOATS = ("F16", "BF16", "F32")
PACKED = {mx.uint32: ("U32",), mx.uint8: ("U8",)}  # weights, and the scales of the fp modes

Form = tuple[tuple[int, ...], tuple[str, ...]]  # shape, and the dtypes it may have
# Group size and bits that mx.quantize takes, by mode.
QUANTIZATIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((32, 64, 128), (2, 3, 4, 5, 6, 8)),
    "mxfp4": ((32,), (4,)),
    "nvfp4": ((16,), (4,)),
    "mxfp8": ((32,), (8,)),
}


@dataclass(frozen=True)
class Quantization:
    """How one layer's weight is packed."""

    group_size: int
    bits: int
    mode: str


@dataclass(frozen=True)
class Checkpoint:
    """A converted folder, loaded."""

    folder: Path
    config: LlavaConfig
    model: Llava
    tokenizer: Tokenizer
    quantized: Mapping[str, Quantization]

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return frozenset((*self.config.eos_token_ids, self.tokenizer.eos_id))


def load(folder: Path) -> Checkpoint:
    """Load a converted folder, weights evaluated on this thread.

    Raises ModelError where the folder is not a converted one, CheckpointError where anything in it does not
    fit, LimitError where the weights would not fit into memory.
    """
    values = converted_config(folder, str(folder))
    config = from_hf(values)
    quantized = read_quantization(values.get("quantization", {}))
    tokenizer = load_tokenizer(folder, config)
    tensors = read_index(folder)
    model = empty_model(config, quantized)
    check_coverage(parameter_shapes(model), tensors, str(folder))
    check_memory(tensors.values(), str(folder))
    model.load_weights(list(_weights(tensors.values())))
    backend.adapt_to_device(model)
    mx.eval(model.parameters())
    model.eval()
    return Checkpoint(folder, config, model, tokenizer, quantized)


def converted_config(folder: Path, name: str) -> dict[str, Any]:
    """The config.json of a converted folder that the user calls `name`; ModelError where it is not a converted one."""
    path = folder / "config.json"
    values = read_json(path) if path.exists() else {}
    if values.get("mlx_llava") is None:
        raise ModelError(
            f"{name}: not a converted model",
            f"Convert it: python -m mlx_llava.convert --hf-path {name} --mlx-path NEW_FOLDER",
        )
    return values


def _weights(tensors: Collection[Tensor]) -> Iterator[tuple[str, mx.array]]:
    """All weights as the device wants them, each evaluated, so that no second copy outlives it.

    MLX reads the files, with several threads; their headers have been checked, and it is checked that they still are
    the same files.
    """
    for file in {tensor.file for tensor in tensors}:
        try:
            held: dict[str, mx.array] = mx.load(str(file))  # pyright: ignore
            for name in list(held):
                array = backend.to_compute_dtype(held.pop(name))
                mx.eval(array)
                yield name, array
        except (RuntimeError, ValueError):
            check_unchanged(tensors)
            raise
    check_unchanged(tensors)


def load_tokenizer(folder: Path, config: LlavaConfig) -> Tokenizer:
    """The folder's tokenizer.json, checked against the number of embedding rows."""
    return Tokenizer.load(
        folder / "tokenizer.json",
        image_id=config.image_token_id,
        num_rows=config.text.vocab_size,
        restart_after_image=config.restart_after_image,
    )


def empty_model(config: LlavaConfig, quantized: Mapping[str, Quantization]) -> Llava:
    """A model of the right form whose weights are not computed yet; ConfigError for a layer that cannot be packed."""
    model = Llava(config)
    layers = packable(model)
    for path, packing in quantized.items():
        if path not in layers or layers[path].weight.shape[-1] % packing.group_size:
            raise ConfigError(
                f"config.json.quantization: {short(path)} cannot be packed in groups of {packing.group_size}",
                "The table does not belong to this model; convert the checkpoint again.",
            )
    nn.quantize(model, class_predicate=lambda path, _: vars(quantized[path]) if path in quantized else False)
    return model


def packable(model: nn.Module) -> dict[str, nn.Linear | nn.Embedding]:
    """The layers whose weight can be packed, by path; positions are added as they stand."""
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Embedding) and not path.endswith("position_embedding")
    }


def read_quantization(values: object) -> dict[str, Quantization]:
    """The table `layer -> how it is packed` of a converted config."""
    table = Section(values, "config.json.quantization")
    read = {}
    for path in table.values:
        entry = table.section(path)
        mode = entry.choice("mode", None, tuple(QUANTIZATIONS))
        groups, bits = QUANTIZATIONS[mode]
        entry.must("group_size", *groups)
        entry.must("bits", *bits)
        read[path] = Quantization(entry.whole("group_size", None, 1, 128), entry.whole("bits", None, 1, 8), mode)
        entry.finish()
    return read


def parameter_shapes(model: nn.Module) -> dict[str, Form]:
    """Shape of every parameter, and the dtypes it may have in a file; computes none of them."""
    flat: list[tuple[str, mx.array]] = tree_flatten(model.parameters())  # pyright: ignore
    return {name: (x.shape, PACKED.get(x.dtype, FLOATS)) for name, x in flat}


def check_coverage(wanted: Mapping[str, Form], found: Mapping[str, Tensor], where: str) -> None:
    """Raise CheckpointError unless `found` fills `wanted` exactly."""
    missing = [name for name in wanted if name not in found]
    extra = [name for name in found if name not in wanted]
    wrong = [
        f"{name} is {tensor.dtype} {list(tensor.shape)}, not {'/'.join(wanted[name][1])} {list(wanted[name][0])}"
        for name, tensor in found.items()
        if name in wanted and (tensor.shape != wanted[name][0] or tensor.dtype not in wanted[name][1])
    ]
    for what, names in (("missing", missing), ("not part of the model", extra), ("of another form", wrong)):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise CheckpointError(
                f"{where}: tensors {what}: {', '.join(name[:160] for name in names[:5])}{more}",
                "The weights do not belong to this config.json; convert or download the checkpoint again.",
            )


def check_memory(tensors: Iterable[Tensor], where: str) -> None:
    """Raise LimitError unless the weights fit, with the widening to float32 that the CPU needs."""
    wide = backend.on_cpu()
    need = sum(t.num_bytes * (2 if wide and t.dtype in ("F16", "BF16") else 1) for t in tensors)
    limit = backend.memory_limit()
    if need > limit:
        raise LimitError(
            f"{where}: the weights take {need / 1e9:.1f} GB and {limit / 1e9:.1f} GB are free",
            "Convert with fewer bits (-q --q-bits 4), or close other programs.",
        )


def read_array(reader: Reader, tensor: Tensor, start: int = 0, stop: int | None = None) -> mx.array:
    """Rows of a tensor as an MLX array of the same dtype."""
    rows: np.ndarray[Any, Any] = reader.rows(tensor, start, stop)
    array = mx.array(rows)
    return array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
