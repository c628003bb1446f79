"""The folder that holds adapters, or a projector: written whole, and read strictly for the model it belongs to.

It has mlx-lm's form, `adapters.safetensors` beside `adapter_config.json`; the projector that was trained with them
lies in `projector.safetensors`, or alone, where the rank is 0.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.folder import FLOATS, Form, check_coverage, parameter_shapes, read_array
from mlx_llava.checkpoint.safetensors import Reader, read_header, read_index
from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.errors import CheckpointError
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import LAYERS, Lora, adaptable, attach, attached
from mlx_llava.program.atomic import new_files
from mlx_llava.prompts.templates import TEMPLATES

FORMAT = 2
CONFIG, ADAPTERS, PROJECTOR = "adapter_config.json", "adapters.safetensors", "projector.safetensors"


def fingerprint(folder: Path) -> str:
    """What tells one converted model from another, hashed: its tensors, its tokenizer, and its config.

    Of a tensor count name, dtype, shape and first row, of a vector all values; how they are spread over files does
    not. Of the config all counts but where it came from, and the template and fit, which training may change.
    """
    digest = hashlib.sha256((folder / "tokenizer.json").read_bytes())
    config = read_json(folder / "config.json")
    ours = config.pop("mlx_llava")
    image = {name: value for name, value in ours["picture"].items() if name != "fit"}
    digest.update(json.dumps([config, image, ours.get("restart_after_image")], sort_keys=True).encode())
    with Reader() as reader:
        for name, tensor in sorted(read_index(folder).items()):
            digest.update(json.dumps([name, tensor.dtype, tensor.shape]).encode())
            digest.update(reader.rows(tensor, 0, 1 if len(tensor.shape) > 1 else None).tobytes())
    return digest.hexdigest()


def save(
    folder: Path, model: Llava, lora: Lora | None, base: str, *, projector: bool, config: LlavaConfig | None = None
) -> None:
    """Write the adapters, and the projector if it was trained, into a folder; without `lora` the projector alone.

    Written aside and moved into place, the config last and the old one away first: without it nothing is read.

    Args:
        base: the fingerprint of the model that they belong to.
        config: how text and pictures became input in training, for answers that are asked for in the same way.
    """
    tensors = {
        ADAPTERS: {f"{path}.{name}": a[name] for path, a in attached(model).items() for name in ("lora_a", "lora_b")},
        PROJECTOR: dict(_projector(model)) if projector else {},
    }
    values = {
        "fine_tune_type": "lora",
        "num_layers": len(model.language_model.layers),
        "lora_parameters": _form(lora),
        "mlx_llava": {"format": FORMAT, "base": base, "alpha": lora.alpha if lora else 0.0, "projector": projector},
    }
    if config is not None:
        values["mlx_llava"] |= {"template": config.template, "fit": config.image.fit}
    with new_files(folder, folder / ".adapters", last=CONFIG) as unfinished:
        for name, some in tensors.items():
            if some:
                mx.save_safetensors(str(unfinished / name), some, {"format": "mlx"})
        (unfinished / CONFIG).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _form(lora: Lora | None) -> dict[str, Any]:
    """What mlx-lm calls the parameters; of no adapters the rank is 0."""
    if lora is None:
        return {"rank": 0, "scale": 0.0, "dropout": 0.0, "keys": []}
    return {"rank": lora.rank, "scale": lora.scale, "dropout": lora.dropout, "keys": list(LAYERS)}


def load(folder: Path, model: Llava, base: str) -> Lora | None:
    """Attach the adapters of a folder, and give the model the projector trained with them.

    Where the folder holds a projector alone, that is all, and None is returned. Raises CheckpointError, before
    anything changes, where the folder belongs to another model than the one with the fingerprint `base`, or holds
    anything else than exactly the tensors it declares, all finite.
    """
    lora, projector = _read_config(folder, model, base)
    values: dict[str, mx.array] = {}
    if lora is not None:
        values.update((name, x.astype(mx.float32)) for name, x in _read(folder / ADAPTERS, _forms(model, lora)))
    if projector:
        forms = {n: f for n, f in parameter_shapes(model).items() if n.startswith("projector.")}
        now = dict(_projector(model))
        values.update((name, x.astype(now[name].dtype)) for name, x in _read(folder / PROJECTOR, forms))
    if lora is not None:
        attach(model, lora)
    model.load_weights(list(values.items()), strict=False)
    return lora


def asked_as_trained(folder: Path, config: LlavaConfig) -> LlavaConfig:
    """The config of a model with the template and the fit of pictures that a folder's adapters were trained with."""
    ours = Section(read_json(folder / CONFIG), f"{folder}/{CONFIG}").section("mlx_llava")
    chosen = ours.choice("template", config.template, TEMPLATES)
    fit = "pad" if ours.choice("fit", config.image.fit, ("crop", "pad")) == "pad" else "crop"
    return replace(config, template=chosen, image=replace(config.image, fit=fit))


def load_projector(folder: Path, model: Llava, base: str) -> None:
    """Give the model the projector of a folder that holds nothing else; CheckpointError as `load` has it."""
    if _read_config(folder, model, base)[0] is not None:
        raise CheckpointError(f"{folder}: holds adapters too", "Name a folder of `mlx-llava pretrain`.")
    load(folder, model, base)


def _projector(model: Llava) -> Iterator[tuple[str, mx.array]]:
    flat: list[tuple[str, mx.array]] = tree_flatten(model.projector.parameters())  # pyright: ignore
    return ((f"projector.{name}", value) for name, value in flat)


def _read_config(folder: Path, model: Llava, base: str) -> tuple[Lora | None, bool]:
    config = Section(read_json(folder / CONFIG), f"{folder}/{CONFIG}")
    ours, form = config.section("mlx_llava"), config.section("lora_parameters")
    ours.must("format", FORMAT)
    if ours.text("base", None) != base:
        raise CheckpointError(f"{folder}: the adapters belong to another model", "Name the one they were trained on.")
    config.must("fine_tune_type", "lora")
    config.must("num_layers", len(model.language_model.layers))
    rank, dropout = form.whole("rank", None, 0, 2**16), form.real("dropout", None, 0.0, 0.999)
    alpha, projector = ours.real("alpha", None, 0.0, 1e6), ours.flag("projector", False)
    lora = Lora(rank, alpha, dropout) if rank else None
    _ = ours.get("template"), ours.get("fit")  # for asked_as_trained
    for key in ("scale", "keys"):
        form.must(key, _form(lora)[key])
    for section in (config, ours, form):
        section.finish()
    for name, declared in ((ADAPTERS, lora is not None), (PROJECTOR, projector)):
        if (folder / name).exists() and not declared:
            raise CheckpointError(f"{folder}/{name}: the folder's config declares none", "Take it away.")
    if lora is None and not projector:
        raise CheckpointError(f"{folder}: declares neither adapters nor a projector", "Train it again.")
    return lora, projector


def _forms(model: Llava, lora: Lora) -> dict[str, Form]:
    """The tensors that adapters of this form have on this model."""
    forms: dict[str, Form] = {}
    for path, layer in adaptable(model).items():
        outputs, inputs = layer.weight.shape
        if isinstance(layer, nn.QuantizedLinear):
            inputs = inputs * 32 // layer.bits
        forms[f"{path}.lora_a"] = (inputs, lora.rank), FLOATS
        forms[f"{path}.lora_b"] = (lora.rank, outputs), FLOATS
    return forms


def _read(file: Path, wanted: Mapping[str, Form]) -> Iterator[tuple[str, mx.array]]:
    """Every tensor of a file that holds exactly the wanted ones; CheckpointError for a value that is not finite."""
    tensors = read_header(file)
    check_coverage(wanted, tensors, str(file))
    with Reader() as reader:
        for name, tensor in tensors.items():
            array = read_array(reader, tensor)
            if not mx.isfinite(array).all():
                raise CheckpointError(f"{file}: {name} is not finite", "Take an earlier state of the training.")
            yield name, array
