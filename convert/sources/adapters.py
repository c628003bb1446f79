"""Adapters trained elsewhere: a LoRA folder of PEFT or of original LLaVA, or a projector alone.

PEFT writes `adapter_config.json` and `adapter_model`. Original LLaVA saves everything else it trained in
`non_lora_trainables.bin`, and the projector of stage 1 in `mm_projector.bin`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.safetensors import Tensor, read_header
from mlx_llava.convert.sources import peft
from mlx_llava.convert.sources.files import SINGLE
from mlx_llava.convert.sources.names import new_name
from mlx_llava.convert.sources.peft import ADAPTERS, AS_SAVED, CONFIG
from mlx_llava.convert.torch_bin.archive import read_file
from mlx_llava.convert.weights.changes import Change
from mlx_llava.errors import CheckpointError, ConversionError

OTHERS, PROJECTOR = "non_lora_trainables.bin", "mm_projector.bin"


@dataclass(frozen=True)
class Adapters:
    """Contents of an adapter folder, by our names."""

    layers: Mapping[str, Change] = field(default_factory=dict)
    """By the path of their layer."""
    replaced: Mapping[str, Tensor] = field(default_factory=dict)
    """Tensors that replace the base's."""
    base: str = ""
    """The base named in the config: a folder on another machine, or a repository."""

    @property
    def has_projector(self) -> bool:
        """Whether they replace a projector, or a part of it."""
        return any(name.startswith("projector.") for name in self.replaced)

    @property
    def whole_projector(self) -> bool:
        """Whether they hold a projector as original LLaVA saves it: all of its layers."""
        files = {tensor.file.name for name, tensor in self.replaced.items() if name.startswith("projector.")}
        return bool(files & {OTHERS, PROJECTOR})


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
    parts = {name: tensor for name, tensor in tensors.items() if peft.is_part(name)}
    has_config = (folder / CONFIG).exists()
    if has_config != bool(parts):
        raise ConversionError(f"{folder}: needs both {CONFIG} and adapters, or neither", AS_SAVED)
    replaced = _replaced(folder, {name: tensor for name, tensor in tensors.items() if name not in parts})
    if not has_config:
        return Adapters(replaced=replaced)
    settings = peft.read_settings(folder)
    return Adapters(peft.changes(parts, settings), replaced, settings.base)


def _replaced(folder: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors that replace one of the base, by our names."""
    replaced: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        ours = None if ".original_module." in name else new_name(peft.unwrapped(name))
        if ours in replaced:
            raise ConversionError(f"{folder}: {ours} appears twice, once as {name[:160]}", AS_SAVED)
        if ours is None:
            continue
        if tensor.file.name == PROJECTOR and not ours.startswith("projector."):
            problem = f"{tensor.file}: holds {name[:160]} besides the projector"
            raise ConversionError(problem, "A stage 1 that trained new tokens (mm_use_im_start_end) cannot be merged.")
        replaced[ours] = tensor
    return replaced


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


def check_shapes(layers: Mapping[str, Change], weights: Mapping[str, Any], where: str) -> None:
    """Raise ConversionError unless every adapter has a weight of its shape."""
    for path, change in layers.items():
        weight = weights.get(f"{path}.weight")
        if weight is None or not change.fits(tuple(weight.shape)):
            actual = "is missing" if weight is None else f"is {list(weight.shape)}"
            problem = f"{where}: the adapter of {path} is for {change.form}, the base's weight {actual}"
            raise ConversionError(problem, "Name the base it was trained on with --model-base.")
