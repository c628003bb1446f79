"""Everything the flags name: configs and headers of a checkpoint, of its base, and of a separate vision tower."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.config_json import UNQUANTIZED, from_hf, is_llava, quantized_by
from mlx_llava.checkpoint.config_json.keys import CODE_KEYS
from mlx_llava.checkpoint.config_json.original import tower_name
from mlx_llava.checkpoint.config_json.towers import vision_from_hf
from mlx_llava.checkpoint.hub import REPOSITORY
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import Section, read_json, short
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.sources import adapters
from mlx_llava.convert.sources.adapters import Adapters
from mlx_llava.convert.sources.files import fetch_checkpoint, tensors_of
from mlx_llava.convert.sources.image_processor import with_images
from mlx_llava.convert.sources.new_projector import joined, random_projector
from mlx_llava.convert.weights.algebra import Weight
from mlx_llava.convert.weights.output_folder import check_apart
from mlx_llava.errors import ConversionError, ModelError, UsageError


@dataclass(frozen=True)
class Inputs:
    """What a conversion starts from, by the checkpoint's own tensor names."""

    folder: Path
    """The checkpoint, or the base of an adapter folder."""
    config: LlavaConfig
    tensors: Mapping[str, Tensor]
    tower: Mapping[str, Tensor] = field(default_factory=dict)
    """Of a vision tower in another folder."""
    adapters: Adapters = field(default_factory=Adapters)
    projector: Mapping[str, Weight] = field(default_factory=dict)
    """A new one, by our names."""
    notes: Sequence[str] = ()


def gather(options: ConvertOptions) -> Inputs:
    """Read configs and headers, but no weights."""
    folder, values, tuned = _model_and_adapters(options)
    if values.get("mm_projector_type") is None and options.new_projector:
        values = joined(values, options.vision_tower, options.new_projector)
    elif options.new_projector:
        raise UsageError("--new-projector is for text models; this is a LLaVA already", "Leave it out.")
    elif options.seed is not None:
        raise UsageError("--seed is for --new-projector", "Leave it out.")
    config, tensors, tower = _read(options, folder, values)
    if tuned.layers and not tuned.has_projector and not any("projector." in name for name in tensors):
        problem = f"{options.hf_path}: {adapters.OTHERS} is missing, and {options.model_base} has no projector"
        raise ConversionError(problem, f"Copy {adapters.OTHERS} there: LLaVA saves the projector in it.")
    projector = random_projector(config, options.seed or 0) if options.new_projector else {}
    notes = [*_notes(options, folder, values, tuned)]
    if options.vision_tower and _has_tower(tensors):
        notes += ["note: uses the checkpoint's own tower; --vision-tower gives only its config and image settings"]
    return Inputs(folder, config, tensors, tensors_of(tower) if tower else {}, tuned, projector, notes)


def _model_and_adapters(options: ConvertOptions) -> tuple[Path, dict[str, Any], Adapters]:
    """The folder of the model itself, its config.json, and adapters to merge into it."""
    folder = fetch_checkpoint(options.hf_path, options.revision, with_bin=options.model_base is not None)
    check_apart(options.mlx_path, folder)
    has_adapters = adapters.is_adapter_folder(folder)
    if options.model_base is None:
        if has_adapters:
            raise UsageError(f"{options.hf_path}: adapters without their base", "Name the base with --model-base.")
        return folder, _config(folder, options.hf_path), Adapters()
    if not has_adapters:
        raise UsageError(
            f"{options.hf_path}: a whole model, or a folder with neither {adapters.CONFIG} nor {adapters.PROJECTOR}",
            "Leave --model-base out, or name a LoRA folder.",
        )
    base = fetch_checkpoint(options.model_base)
    path = folder / "config.json"
    values = read_json(path) if path.exists() else {}
    if tower_name(values) is None and "text_config" not in values:
        values = _config(base, options.model_base)  # PEFT saves none
    if tower_name(values) is None and "text_config" not in values:
        problem = f"{options.hf_path}: no config.json of a LLaVA, and {options.model_base} is a text model"
        raise ConversionError(problem, "Copy the config.json of the training there: it names tower and projector.")
    return base, values, adapters.read(folder)


def _config(folder: Path, name: str) -> dict[str, Any]:
    """The config.json of a checkpoint that the user calls `name`; ModelError if there is none."""
    if not (folder / "config.json").exists():
        advice = "Expected are config.json, tokenizer.json or tokenizer.model, and weights (.safetensors or .bin)."
        raise ModelError(f"{name}: no checkpoint in it, config.json is missing", advice)
    values = read_json(folder / "config.json")
    if "mlx_llava" in values:
        raise ModelError(f"{name}: already converted", f"Name the checkpoint it was made from{_made_from(values)}.")
    if method := quantized_by(values, folder):
        raise ModelError(f"{name}: quantized by {method}, which cannot be converted", UNQUANTIZED)
    return values


def _made_from(values: dict[str, Any]) -> str:
    """The repository that a folder was converted from, if it was one: a path may be one on another machine."""
    source = Section(values, "config.json").section("mlx_llava").section("source").get("name")
    return f", {source}" if isinstance(source, str) and REPOSITORY.fullmatch(source) else ""


def _read(
    options: ConvertOptions, folder: Path, values: dict[str, Any]
) -> tuple[LlavaConfig, Mapping[str, Tensor], Path | None]:
    """The config, the checkpoint's tensors, and the folder of a separate tower."""
    name = tower_name(values)
    if options.vision_tower and name is None:
        raise UsageError("--vision-tower is for checkpoints with a mm_vision_tower", "Leave it out.")
    tower = fetch_checkpoint(options.vision_tower) if options.vision_tower else None
    vision = vision_from_hf(_config(tower, options.vision_tower or "")) if tower else None
    if not is_llava(values) and not {"text_config", "vision_config"} & values.keys():
        problem = f"{options.hf_path}: not a LLaVA, its model_type is {short(values.get('model_type'))}"
        raise ModelError(problem, "Name a LLaVA-1.5 checkpoint such as llava-hf/llava-1.5-7b-hf.")
    config = from_hf(values, vision)
    tensors = tensors_of(folder)
    if tower is None and name is not None and not _has_tower(tensors):
        tower = fetch_checkpoint(str(name))  # a published one: from_hf refuses any other
    for place in (folder, tower) if tower else (folder,):
        config = with_images(config, place)
    config = _with_stops(config, folder)
    return replace(config, template=options.template or config.template), tensors, tower


def _has_tower(tensors: Mapping[str, Tensor]) -> bool:
    return any("vision_tower." in name for name in tensors)


def _with_stops(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the end-of-sequence ids of generation_config.json, which transformers follows too."""
    path = folder / "generation_config.json"
    keys = Section(read_json(path) if path.exists() else {}, path.name)
    if "eos_token_id" not in keys:
        return config
    return replace(config, eos_token_ids=keys.integers("eos_token_id", None, 0, config.text.vocab_size - 1))


def _notes(options: ConvertOptions, folder: Path, values: dict[str, Any], tuned: Adapters) -> Iterator[str]:
    """What is added to the checkpoint, and what it holds that the conversion ignores."""
    if options.new_projector:
        yield f"a new projector, {options.new_projector}, with random seed {options.seed or 0}; train it first"
    if options.model_base is not None:
        yield f"merged into {options.model_base}: {len(tuned.layers)} adapters, {len(tuned.replaced)} tensors replaced"
        if tuned.layers and not tuned.has_projector and tower_name(values) is not None:
            yield f"note: {adapters.OTHERS} is missing: the projector is the base's"
        base = Path(tuned.base).name
        if base and base.casefold() != Path(options.model_base).name.casefold():
            yield f"note: {adapters.CONFIG} names another base, {tuned.base[:160]}"
    if code := [key for key in CODE_KEYS if values.get(key)]:
        yield f"note: {', '.join(code)} in config.json ignored: code in a checkpoint is never run"
    if any(folder.glob("chat_template.*")):
        yield "note: the checkpoint's chat template is ignored; --template chooses one of ours"
