"""A folder of LoRA adapters: written whole, and read strictly for the model it belongs to.

It has mlx-lm's layout, `adapters.safetensors` beside `adapter_config.json`. A projector that was trained too is in
`projector.safetensors`; a projector alone has rank 0 and no adapters.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.coverage import FLOATS, Form, check_coverage, parameter_forms
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.safetensors import read_header
from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.config import FITS, LlavaConfig
from mlx_llava.errors import CheckpointError, ModelError
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import LAYERS, Lora, adaptable, attach, attached
from mlx_llava.program.atomic import new_files
from mlx_llava.prompts.templates import TEMPLATES

FORMAT = 2
CONFIG, ADAPTERS, PROJECTOR = "adapter_config.json", "adapters.safetensors", "projector.safetensors"


def save(
    folder: Path, model: Llava, lora: Lora | None, base: str, *, projector: bool, config: LlavaConfig | None = None
) -> None:
    """Write the adapters, and the projector if it was trained, into a folder; without `lora` the projector alone.

    A folder without config is not read, so the config arrives last.

    Args:
        base: the fingerprint of the model they were trained on.
        config: how text and images became input in training, so that answers use the same template and fit.
    """
    tensors = {
        ADAPTERS: {f"{path}.{name}": a[name] for path, a in attached(model).items() for name in ("lora_a", "lora_b")},
        PROJECTOR: projector_weights(model) if projector else {},
    }
    values = {
        "fine_tune_type": "lora",
        "num_layers": len(model.language_model.layers),
        "lora_parameters": _parameters(lora),
        "mlx_llava": {"format": FORMAT, "base": base, "alpha": lora.alpha if lora else 0.0, "projector": projector},
    }
    if config is not None:
        values["mlx_llava"] |= {"template": config.template, "fit": config.image.fit}
    with new_files(folder, folder / ".adapters", last=CONFIG) as unfinished:
        for name, arrays in tensors.items():
            if arrays:
                mx.save_safetensors(str(unfinished / name), arrays, {"format": "mlx"})
        (unfinished / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _parameters(lora: Lora | None) -> dict[str, Any]:
    """`lora_parameters` of mlx-lm; rank 0 means no adapters."""
    if lora is None:
        return {"rank": 0, "scale": 0.0, "dropout": 0.0, "keys": []}
    return {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout, "keys": list(LAYERS)}


def load(folder: Path, model: Llava, base: str) -> Lora | None:
    """Attach the adapters of a folder to a model, and load the projector that was trained with them.

    Returns None if the folder holds a projector alone. Raises CheckpointError, before anything changes, unless the
    folder belongs to the model with the fingerprint `base` and holds exactly the tensors it declares, all finite.
    """
    lora, projector = _read_config(folder, model, base)
    values: dict[str, mx.array] = {}
    if lora is not None:
        values.update((name, x.astype(mx.float32)) for name, x in _read(folder / ADAPTERS, _forms(model, lora)))
    if projector:
        forms = {n: f for n, f in parameter_forms(model).items() if n.startswith("projector.")}
        current = projector_weights(model)
        values.update((name, x.astype(current[name].dtype)) for name, x in _read(folder / PROJECTOR, forms))
    if lora is not None:
        attach(model, lora)
    model.load_weights(list(values.items()), strict=False)
    return lora


def check_folder(folder: Path) -> None:
    """Raise ModelError unless a folder exists and holds adapters, or a projector, that this program wrote."""
    if not folder.is_dir():
        kind = "a file, not a folder" if folder.exists() else "no such folder"
        raise ModelError(f"{folder}: {kind}", "Name the folder that holds the adapters.")
    ours = "Name an output folder of mlx-llava lora or pretrain."
    if not (folder / CONFIG).exists():
        raise ModelError(f"{folder}: no adapters in it, {CONFIG} is missing", ours)
    values = read_json(folder / CONFIG)
    if "peft_type" in values:
        command = f"mlx-llava convert --hf-path {quote(str(folder))} --model-base BASE --mlx-path NEW_FOLDER"
        raise ModelError(f"{folder}: adapters of PEFT, not of mlx-llava", f"Merge them into their base: {command}")
    if "mlx_llava" not in values:
        raise ModelError(f"{folder}: adapters of another program", ours)


def with_training_format(folder: Path, config: LlavaConfig) -> LlavaConfig:
    """The config with the prompt template and the image fit that a folder's adapters were trained with."""
    ours = Section(read_json(folder / CONFIG), f"{folder}/{CONFIG}").section("mlx_llava")
    template = ours.choice("template", config.template, TEMPLATES)
    image = replace(config.image, fit=ours.choice("fit", config.image.fit, FITS))
    return replace(config, template=template, image=image)


def load_projector(folder: Path, model: Llava, base: str) -> None:
    """Load the projector of a folder that holds nothing else into a model; raises like `load`."""
    if _read_config(folder, model, base)[0] is not None:
        raise CheckpointError(f"{folder}: holds adapters too", "Name an output folder of `mlx-llava pretrain`.")
    load(folder, model, base)


def projector_weights(model: Llava) -> dict[str, mx.array]:
    """The projector's weights by their names in the model."""
    flat: list[tuple[str, mx.array]] = tree_flatten(model.projector.parameters())  # pyright: ignore
    return {f"projector.{name}": value for name, value in flat}


def _read_config(folder: Path, model: Llava, base: str) -> tuple[Lora | None, bool]:
    check_folder(folder)
    config = Section(read_json(folder / CONFIG), f"{folder}/{CONFIG}")
    ours, parameters = config.section("mlx_llava"), config.section("lora_parameters")
    ours.only("format", FORMAT)
    if ours.text("base", None) != base:
        raise CheckpointError(f"{folder}: the adapters belong to another model", "Name the model they were trained on.")
    config.only("fine_tune_type", "lora")
    config.only("num_layers", len(model.language_model.layers))
    rank, dropout = parameters.integer("rank", None, 0, 2**16), parameters.number("dropout", None, 0.0, 0.999)
    alpha, projector = ours.number("alpha", None, 0.0, 1e6), ours.flag("projector", False)
    lora = Lora(rank, alpha, dropout) if rank else None
    _ = ours.get("template"), ours.get("fit")  # for with_training_format
    for key in ("scale", "keys"):
        parameters.only(key, _parameters(lora)[key])
    for section in (config, ours, parameters):
        section.finish()
    for name, declared in ((ADAPTERS, lora is not None), (PROJECTOR, projector)):
        if (folder / name).exists() and not declared:
            raise CheckpointError(f"{folder}/{name}: not declared in the folder's {CONFIG}", "Remove the file.")
    if lora is None and not projector:
        raise CheckpointError(f"{folder}: declares neither adapters nor a projector", "Train it again.")
    return lora, projector


def _forms(model: Llava, lora: Lora) -> dict[str, Form]:
    """The tensors that adapters with these settings have on this model."""
    forms: dict[str, Form] = {}
    for path, layer in adaptable(model).items():
        outputs, inputs = layer.weight.shape
        if isinstance(layer, nn.QuantizedLinear):
            inputs = inputs * 32 // layer.bits
        forms[f"{path}.lora_a"] = (inputs, lora.rank), FLOATS
        forms[f"{path}.lora_b"] = (lora.rank, outputs), FLOATS
    return forms


def _read(file: Path, forms: Mapping[str, Form]) -> Iterator[tuple[str, mx.array]]:
    """Every tensor of a file; CheckpointError unless they have exactly these forms and all values are finite."""
    tensors = read_header(file)
    check_coverage(forms, tensors, str(file))
    with Reader() as reader:
        for name, tensor in tensors.items():
            array = mx.array(reader.rows(tensor))
            array = array.view(mx.bfloat16) if tensor.dtype == "BF16" else array
            if not mx.isfinite(array).all():
                raise CheckpointError(f"{file}: {name} is not finite", "Use an earlier state of the training.")
            yield name, array
