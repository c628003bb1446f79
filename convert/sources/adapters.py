"""Adapters trained elsewhere: a LoRA folder of PEFT or of original LLaVA, or a projector alone.

PEFT writes `adapter_config.json` and `adapter_model`. Original LLaVA saves everything else it trained in
`non_lora_trainables.bin`, and the projector of stage 1 in `mm_projector.bin`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.safetensors import Tensor, read_header
from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.convert.sources.files import SINGLE
from mlx_llava.convert.sources.names import new_name
from mlx_llava.convert.torch_bin.archive import read_file
from mlx_llava.convert.weights.algebra import FileTensor, LoraDelta
from mlx_llava.errors import CheckpointError, ConversionError

CONFIG, ADAPTERS = "adapter_config.json", "adapter_model"
OTHERS, PROJECTOR = "non_lora_trainables.bin", "mm_projector.bin"
# Keys of peft's LoraConfig that do not change a merged weight, or that follow from its tensors.
HARMLESS = frozenset(
    """
    task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules exclude_modules
    lora_dropout modules_to_save layers_to_transform layers_pattern megatron_core qalora_group_size parent_library
    """.split()
)
AS_SAVED = "Use the folder as it was saved."
ADAPTER = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Adapters:
    """Contents of an adapter folder, by our names."""

    layers: Mapping[str, LoraDelta] = field(default_factory=dict)
    """By the path of their layer."""
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that replace the base's."""
    base: str = ""
    """The base named in the config: a folder on another machine, or a repository."""


def is_adapter_folder(folder: Path) -> bool:
    """Whether a folder holds adapters or a projector, and not a whole model."""
    present = {name for name in (CONFIG, PROJECTOR, "model.safetensors", SINGLE) if (folder / name).exists()}
    return bool(present) and present <= {CONFIG, PROJECTOR} and not any(folder.glob("*model*.index.json"))


def read(folder: Path) -> Adapters:
    """The adapters and other tensors of a folder; ConversionError for a kind of adapter that cannot be merged."""
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        new = read_header(file) if file.suffix == ".safetensors" else read_file(file)
        if duplicates := tensors.keys() & new.keys():
            raise ConversionError(f"{folder}: {min(duplicates)[:160]} is in two files", AS_SAVED)
        tensors |= new
    adapters = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    layers = dict(_layers(adapters, *_scale(folder))) if (folder / CONFIG).exists() else {}
    if not layers and (adapters or (folder / CONFIG).exists()):
        raise ConversionError(f"{folder}: needs both {CONFIG} and adapters, or neither", AS_SAVED)
    replaced = {}
    for name, tensor in tensors.items():
        ours = None if name in adapters or ".original_module." in name else new_name(_unwrapped(name))
        if ours in replaced:
            raise ConversionError(f"{folder}: {ours} appears twice, once as {name[:160]}", AS_SAVED)
        if ours is not None:
            replaced[ours] = tensor
    base = read_json(folder / CONFIG).get("base_model_name_or_path") if layers else ""
    return Adapters(layers, replaced, base if isinstance(base, str) else "")


def _files(folder: Path) -> Iterator[Path]:
    if not (folder / CONFIG).exists():
        yield folder / PROJECTOR
        return
    either = [folder / f"{ADAPTERS}.safetensors", folder / f"{ADAPTERS}.bin"]
    file = next((file for file in either if file.exists()), None)
    if file is None:
        raise CheckpointError(f"{folder}: {CONFIG} without {ADAPTERS}.safetensors or .bin", "Copy the file there.")
    yield file
    if (folder / OTHERS).exists():
        yield folder / OTHERS


def _scale(folder: Path) -> tuple[int, float]:
    """Rank of the adapters and the factor on their product; ConfigError for settings that a merge cannot follow."""
    values = read_json(folder / CONFIG)
    keys = Section({k: v for k, v in values.items() if v not in (False, "", [], {})}, CONFIG)
    keys.only("peft_type", "LORA")
    keys.only("bias", "none")
    keys.only("init_lora_weights", True, "gaussian")  # others change the base too
    rank, alpha = keys.integer("r", None, 1, 2**16), keys.number("lora_alpha", None, 0.0, 1e6)
    scale = alpha / (rank**0.5 if keys.flag("use_rslora", False) else rank)
    keys.finish(HARMLESS)
    return rank, scale


def _layers(adapters: Mapping[str, Tensor], rank: int, scale: float) -> Iterator[tuple[str, LoraDelta]]:
    """Pairs of A `[rank, in]` and B `[out, rank]`, by our path of the layer."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapters.items():
        match = ADAPTER.fullmatch(name)
        ours = match and new_name(_unwrapped(f"{match[1]}.weight"))
        if not match or not ours:
            raise ConversionError(f"{name[:120]}: this kind of adapter is not implemented", "Only LoRA can be merged.")
        pairs.setdefault(ours.removesuffix(".weight"), {})[match[2]] = tensor
    for path, pair in pairs.items():
        shapes = {kind: tensor.shape for kind, tensor in pair.items()}
        if shapes.keys() != {"A", "B"} or len(shapes["A"]) != 2 or shapes["A"][0] != rank or shapes["B"][1:] != (rank,):
            raise CheckpointError(f"{path}: no pair of adapters of rank {rank}", AS_SAVED)
        yield path, LoraDelta(FileTensor(pair["A"]), FileTensor(pair["B"]), scale, transposed=True)


def _unwrapped(name: str) -> str:
    """The name without PEFT's wrappers; LLaVA's own loader strips the same (llava/model/builder.py)."""
    name = re.sub(r"\.modules_to_save(?:\.default)?", "", name).removeprefix("base_model.model.")
    return name.removeprefix("model.") if name.startswith("model.model.") else name


def check_shapes(layers: Mapping[str, LoraDelta], weights: Mapping[str, Any], where: str) -> None:
    """Raise ConversionError unless every adapter has a weight of its shape."""
    for path, delta in layers.items():
        weight = weights.get(f"{path}.weight")
        if weight is None or tuple(weight.shape) != delta.shape:
            actual = "is missing" if weight is None else f"is {list(weight.shape)}"
            problem = f"{where}: the adapter of {path} is for {list(delta.shape)}, the base's weight {actual}"
            raise ConversionError(problem, "Name the base it was trained on with --model-base.")
