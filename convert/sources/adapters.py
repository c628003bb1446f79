"""What a tuning left beside its base: a LoRA folder of PEFT or of original LLaVA, or a projector alone.

PEFT writes `adapter_config.json` and `adapter_model`; original LLaVA puts everything else that it trained into
`non_lora_trainables.bin`, and after stage 1 its projector into `mm_projector.bin`.
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
from mlx_llava.convert.weights.algebra import Delta, Stored
from mlx_llava.errors import CheckpointError, ConversionError

CONFIG, ADAPTERS, OTHERS, PROJECTOR = (
    "adapter_config.json",
    "adapter_model",
    "non_lora_trainables.bin",
    "mm_projector.bin",
)
# Keys of peft's LoraConfig that a merged weight does not depend on, or that its tensors tell.
HARMLESS = frozenset(
    """
    task_type auto_mapping peft_version base_model_name_or_path revision inference_mode target_modules exclude_modules
    lora_dropout modules_to_save layers_to_transform layers_pattern megatron_core qalora_group_size parent_library
    """.split()
)
ADAPTER = re.compile(r"(.+)\.lora_([AB])(?:\.default)?\.weight")


@dataclass(frozen=True)
class Tuning:
    """Adapters by the path of their layer, and tensors that stand in the place of the base's, all by our names."""

    layers: Mapping[str, Delta] = field(default_factory=dict)
    instead: Mapping[str, Tensor] = field(default_factory=dict)
    base: str = ""
    """What its config names as the base: a folder of another machine, or a repository."""


def is_tuning(folder: Path) -> bool:
    """Whether a folder holds what was tuned and not the model itself."""
    return (
        any((folder / name).exists() for name in (CONFIG, PROJECTOR))
        and not any(folder.glob("*model*.index.json"))
        and not any((folder / name).exists() for name in ("model.safetensors", SINGLE))
    )


def read(folder: Path) -> Tuning:
    """Everything that was tuned; ConversionError for a kind of adapter that cannot be merged."""
    tensors: dict[str, Tensor] = {}
    for file in _files(folder):
        found = read_header(file) if file.suffix == ".safetensors" else read_file(file)
        if twice := tensors.keys() & found.keys():
            raise ConversionError(f"{folder}: {min(twice)[:160]} is in two files", "Take the folder as saved.")
        tensors |= found
    adapters = {name: tensor for name, tensor in tensors.items() if ".lora_" in name}
    layers = dict(_layers(adapters, *_scale(folder))) if (folder / CONFIG).exists() else {}
    if not layers and (adapters or (folder / CONFIG).exists()):
        raise ConversionError(f"{folder}: {CONFIG} and adapters do not come together", "Take the folder as saved.")
    instead = {}
    for name, tensor in tensors.items():
        ours = None if name in adapters or ".original_module." in name else new_name(_inside(name))
        if ours in instead:
            raise ConversionError(f"{folder}: {ours} is there twice, once as {name[:160]}", "Take the folder as saved.")
        if ours is not None:
            instead[ours] = tensor
    base = read_json(folder / CONFIG).get("base_model_name_or_path") if layers else ""
    return Tuning(layers, instead, base if isinstance(base, str) else "")


def _files(folder: Path) -> Iterator[Path]:
    """The files of weights that there are."""
    if not (folder / CONFIG).exists():
        yield folder / PROJECTOR
        return
    both = [folder / f"{ADAPTERS}.safetensors", folder / f"{ADAPTERS}.bin"]
    found = next((file for file in both if file.exists()), None)
    if found is None:
        raise CheckpointError(f"{folder}: {CONFIG} without {ADAPTERS}.safetensors or .bin", "Copy it there.")
    yield found
    if (folder / OTHERS).exists():
        yield folder / OTHERS


def _scale(folder: Path) -> tuple[int, float]:
    """Rank of the adapters, and the factor on what they add; ConfigError for what a merge cannot honour."""
    given = read_json(folder / CONFIG)
    keys = Section({k: v for k, v in given.items() if v not in (False, "", [], {})}, CONFIG)
    keys.only("peft_type", "LORA")
    keys.only("bias", "none")
    keys.only("init_lora_weights", True, "gaussian")  # others change the base too
    rank, alpha = keys.integer("r", None, 1, 2**16), keys.number("lora_alpha", None, 0.0, 1e6)
    scale = alpha / (rank**0.5 if keys.flag("use_rslora", False) else rank)
    keys.finish(HARMLESS)
    return rank, scale


def _layers(adapters: Mapping[str, Tensor], rank: int, scale: float) -> Iterator[tuple[str, Delta]]:
    """Pairs of A `[rank, in]` and B `[out, rank]`, by our path of the layer."""
    pairs: dict[str, dict[str, Tensor]] = {}
    for name, tensor in adapters.items():
        match = ADAPTER.fullmatch(name)
        ours = match and new_name(_inside(f"{match[1]}.weight"))
        if not match or not ours:
            raise ConversionError(f"{name[:120]}: this kind of adapter is not implemented", "Only LoRA can be merged.")
        pairs.setdefault(ours.removesuffix(".weight"), {})[match[2]] = tensor
    for path, pair in pairs.items():
        shapes = {kind: tensor.shape for kind, tensor in pair.items()}
        if shapes.keys() != {"A", "B"} or len(shapes["A"]) != 2 or shapes["A"][0] != rank or shapes["B"][1:] != (rank,):
            raise CheckpointError(f"{path}: no pair of adapters of rank {rank}", "Take the folder as it was saved.")
        yield path, Delta(Stored(pair["A"]), Stored(pair["B"]), scale, upright=False)


def _inside(name: str) -> str:
    """The name in the model that PEFT wrapped; LLaVA's own loader strips the same (llava/model/builder.py)."""
    inside = re.sub(r"\.modules_to_save(?:\.default)?", "", name).removeprefix("base_model.model.")
    return inside.removeprefix("model.") if inside.startswith("model.model.") else inside


def check_shapes(layers: Mapping[str, Delta], weights: Mapping[str, Any], where: str) -> None:
    """Raise ConversionError unless every adapter stands on a weight of its shape."""
    for path, delta in layers.items():
        weight = weights.get(f"{path}.weight")
        if weight is None or tuple(weight.shape) != delta.shape:
            found = "is not there" if weight is None else f"is {list(weight.shape)}"
            raise ConversionError(
                f"{where}: the adapter of {path} is for {list(delta.shape)}, the base's weight {found}",
                "Name the base that it was trained on with --model-base.",
            )
