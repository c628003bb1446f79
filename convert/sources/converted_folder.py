"""A converted folder as the source of another one: its weights dequantized, adapters added, nothing loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.coverage import check_coverage, parameter_forms
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import converted_config, empty_model
from mlx_llava.checkpoint.hub import REPOSITORY
from mlx_llava.checkpoint.quantization import Quantization, read_quantization
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.strict_json import read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.weights.algebra import Dequantized, FileTensor, InMemory, Weight
from mlx_llava.convert.weights.changes import LoraDelta
from mlx_llava.convert.weights.plan import Planned
from mlx_llava.convert.weights.writer import DTYPES
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import Lora

NORM = "language_model.norm.weight"  # never quantized: its dtype is the model's


@dataclass(frozen=True)
class FolderAdapters:
    """An adapter folder that belongs to the model."""

    lora: Lora | None  # None: a projector alone
    layers: Mapping[str, LoraDelta]  # by the path of the layer
    projector: Mapping[str, mx.array]  # by name; empty if it was not trained


@dataclass(frozen=True)
class ConvertedFolder:
    """A converted folder whose headers have been checked."""

    path: Path
    values: dict[str, Any]  # config.json
    config: LlavaConfig
    quantized: Mapping[str, Quantization]
    dtype: mx.Dtype
    parts: Mapping[str, Weight]  # every tensor of its files, but a trained projector instead of its own
    adapters: FolderAdapters | None

    @property
    def source(self) -> str:
        """What the folder was converted from: a repository, or a folder that may be on another machine."""
        return str(self.values["mlx_llava"].get("source", {}).get("name", "an unnamed checkpoint"))

    @property
    def title(self) -> str:
        """The source in a title: a repository whole, of a folder's path only the name."""
        return self.source if REPOSITORY.fullmatch(self.source) else Path(self.source).name

    def weights(self) -> dict[str, Weight]:
        """Every weight, dequantized, adapters added."""
        weights = {}
        for name, part in self.parts.items():
            path, _, kind = name.rpartition(".")
            if path in self.quantized and kind in ("scales", "biases"):
                continue
            if path in self.quantized and kind == "weight":
                biases = self.parts.get(f"{path}.biases")
                part = Dequantized(part, self.parts[f"{path}.scales"], biases, self.quantized[path])
            delta = self.adapters.layers.get(path) if self.adapters and kind == "weight" else None
            weights[name] = delta.applied(part) if delta else part
        return weights

    def keeps(self, path: str, quantization: Quantization) -> bool:
        """Whether a layer already has this quantization and gets no adapter."""
        return self.quantized.get(path) == quantization and not (self.adapters and path in self.adapters.layers)

    def copied(self, path: str) -> Iterator[Planned]:
        """The parts of a quantized layer, unchanged."""
        for kind in ("weight", "scales", "biases"):
            if part := self.parts.get(f"{path}.{kind}"):
                yield Planned(f"{path}.{kind}", part, self.dtype_of(part))

    def dtype_of(self, part: Weight) -> mx.Dtype:
        """The dtype to write it in: its own if it is in a file, otherwise the model's."""
        return DTYPES[part.tensor.dtype] if isinstance(part, FileTensor) else self.dtype


def read(folder: Path, name: str, adapter: Path | None = None) -> ConvertedFolder:
    """A converted folder that the user calls `name`, with an adapter folder trained on it.

    Raises ModelError if it is not a converted one, CheckpointError if tensors do not fit the config or the adapters
    belong to another model.
    """
    if adapter is not None:
        adapters.check_folder(adapter)
    values = converted_config(folder, name)
    config = from_hf(values)
    quantized = read_quantization(values.get("quantization", {}))
    tensors = read_index(folder)
    model = empty_model(config, quantized)
    check_coverage(parameter_forms(model), tensors, str(folder))
    trained = None
    parts: dict[str, Weight] = {tensor: FileTensor(place) for tensor, place in tensors.items()}
    if adapter is not None:
        trained = _read_adapters(adapter, model, fingerprint(folder))
        config = adapters.with_training_format(adapter, config)
        ours = {"template": config.template, "picture": asdict(config.image)}
        values = {**values, "mlx_llava": {**values["mlx_llava"], **ours}}
        parts |= {tensor: InMemory(f"{adapter}: {tensor}", array) for tensor, array in trained.projector.items()}
    return ConvertedFolder(folder, values, config, quantized, DTYPES[tensors[NORM].dtype], parts, trained)


def _read_adapters(folder: Path, model: Llava, base: str) -> FolderAdapters:
    """Load an adapter folder onto an empty model: the loader checks it, and no weight of the model is evaluated."""
    lora = adapters.load(folder, model, base)
    layers = {}
    for path, module in model.named_modules():
        if lora and "lora_a" in module:
            a, b = (InMemory(f"{folder}: {path}", module[name]) for name in ("lora_a", "lora_b"))
            layers[path] = LoraDelta(a, b, lora.scale)
    trained = read_json(folder / adapters.CONFIG)["mlx_llava"].get("projector")
    return FolderAdapters(lora, layers, adapters.projector_weights(model) if trained else {})
