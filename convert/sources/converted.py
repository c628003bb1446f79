"""A converted folder as the source of another one: its weights unpacked, an adapter added, nothing loaded."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.coverage import check_coverage, parameter_forms
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import converted_config, empty_model
from mlx_llava.checkpoint.quantization import Quantization, read_quantization
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.checkpoint.strict_json import read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.sources.survey import STORED
from mlx_llava.convert.weights.algebra import Adapted, Delta, Held, Packed, Stored, Weight
from mlx_llava.convert.weights.plan import Planned
from mlx_llava.errors import UsageError
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import Lora

RAW = {"U32": mx.uint32, "U8": mx.uint8, **STORED}
NORM = "language_model.norm.weight"  # never packed: its dtype is the model's


@dataclass(frozen=True)
class Tuned:
    """An adapter folder that fits the model below it."""

    form: Lora | None  # of a projector alone
    layers: Mapping[str, Delta]  # by the path of the layer
    projector: Mapping[str, mx.array]  # by name; empty where it was not trained


@dataclass(frozen=True)
class Converted:
    """A converted folder whose headers have been checked."""

    values: dict[str, Any]  # of its config.json
    config: LlavaConfig
    quantized: Mapping[str, Quantization]
    dtype: mx.Dtype
    parts: Mapping[str, Weight]  # every tensor of its files, the tuned projector in the place of the old one
    tuned: Tuned | None

    @property
    def source(self) -> str:
        """What the folder was made from."""
        return str(self.values["mlx_llava"].get("source", {}).get("name", "an unnamed checkpoint"))

    def weights(self) -> dict[str, Weight]:
        """Every weight as it was before it was packed, adapters added."""
        found = {}
        for name, part in self.parts.items():
            path, _, kind = name.rpartition(".")
            if path in self.quantized and kind in ("scales", "biases"):
                continue
            weight = self._unpacked(path) if path in self.quantized and kind == "weight" else part
            found[name] = self._adapted(path, weight) if kind == "weight" else weight
        return found

    def keeps(self, path: str, packing: Quantization) -> bool:
        """Whether a layer that is to be packed so is packed so already, and has no adapter."""
        return self.quantized.get(path) == packing and not (self.tuned and path in self.tuned.layers)

    def copied(self, path: str) -> Iterator[Planned]:
        """The parts of a packed layer, to be written as they stand."""
        for kind in ("weight", "scales", "biases"):
            if part := self.parts.get(f"{path}.{kind}"):
                yield Planned(f"{path}.{kind}", part, self.dtype_of(part))

    def dtype_of(self, part: Weight) -> mx.Dtype:
        """The dtype to write it in: its own if it lies in the files, otherwise the model's."""
        return RAW[part.tensor.dtype] if isinstance(part, Stored) else self.dtype

    def _unpacked(self, path: str) -> Weight:
        weight, scales = self.parts[f"{path}.weight"], self.parts[f"{path}.scales"]
        return Packed(weight, scales, self.parts.get(f"{path}.biases"), self.quantized[path])

    def _adapted(self, path: str, weight: Weight) -> Weight:
        return Adapted(weight, self.tuned.layers[path]) if self.tuned and path in self.tuned.layers else weight


def read(folder: Path, name: str, adapter: Path | None = None) -> Converted:
    """A converted folder that the user calls `name`, and the adapter folder of it.

    Raises ModelError where it is not a converted one, CheckpointError where tensors do not fit the config or
    the adapter belongs to another model.
    """
    values = converted_config(folder, name)
    config = from_hf(values)
    quantized = read_quantization(values.get("quantization", {}))
    tensors = read_index(folder)
    model = empty_model(config, quantized)
    check_coverage(parameter_forms(model), tensors, str(folder))
    tuned = None if adapter is None else _tuned(adapter, model, fingerprint(folder))
    parts: dict[str, Weight] = {tensor: Stored(place) for tensor, place in tensors.items()}
    if adapter is not None and tuned:
        config = adapters.with_training_format(adapter, config)
        ours = {"template": config.template, "picture": asdict(config.image)}
        values = {**values, "mlx_llava": {**values["mlx_llava"], **ours}}
        parts |= {tensor: Held(f"{adapter}: {tensor}", array) for tensor, array in tuned.projector.items()}
    return Converted(values, config, quantized, STORED[tensors[NORM].dtype], parts, tuned)


def _tuned(folder: Path, model: Llava, base: str) -> Tuned:
    """Load an adapter folder onto a skeleton: the loader's own checks, and no weight below it is computed."""
    if not (folder / adapters.CONFIG).is_file():
        raise UsageError(f"{folder}: no adapter folder", f"Name a folder that holds {adapters.CONFIG}.")
    form = adapters.load(folder, model, base)
    layers = {
        path: Delta(Held(f"{folder}: {path}", module["lora_a"]), Held(f"{folder}: {path}", module["lora_b"]), scale)
        for path, module in model.named_modules()
        if "lora_a" in module
        for scale in (form.scale if form else 0.0,)
    }
    flat: list[tuple[str, mx.array]] = tree_flatten(model.projector.parameters())  # pyright: ignore
    trained = read_json(folder / adapters.CONFIG)["mlx_llava"].get("projector")
    return Tuned(form, layers, {f"projector.{name}": array for name, array in flat} if trained else {})
