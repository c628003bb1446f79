"""What the flags name, read: configs and headers of a checkpoint, of its base, and of a tower kept apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.config_json.keys import CODE_KEYS
from mlx_llava.checkpoint.config_json.original import tower_name
from mlx_llava.checkpoint.config_json.towers import vision_from_hf
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.checkpoint.strict_json import Section, read_json
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.sources import adapters
from mlx_llava.convert.sources.files import fetch_checkpoint, tensors_of
from mlx_llava.convert.sources.image_processor import with_images
from mlx_llava.convert.sources.new_projector import draw, joined
from mlx_llava.convert.weights.algebra import Weight
from mlx_llava.errors import ConversionError, UsageError


@dataclass(frozen=True)
class Given:
    """Everything that a conversion starts from."""

    folder: Path
    """Of the checkpoint, or of the base of what was tuned."""
    config: LlavaConfig
    theirs: Mapping[str, Tensor]
    tower: Mapping[str, Tensor] = field(default_factory=dict)
    tuning: adapters.Tuning = field(default_factory=adapters.Tuning)
    drawn: Mapping[str, Weight] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def gather(options: ConvertOptions) -> Given:
    """Read configs and headers; no weight."""
    folder, values, tuning = _named(options)
    if values.get("mm_projector_type") is None and options.new_projector:
        values = joined(values, options.vision_tower, options.new_projector)
    elif options.new_projector:
        raise UsageError("--new-projector is for text models, this is a LLaVA already", "Leave it out.")
    elif options.seed is not None and not options.new_projector:
        raise UsageError("--seed draws a projector, and none is to be drawn", "Leave it out.")
    config, theirs, tower = _read(options, folder, values)
    seed = options.seed or 0
    drawn = draw(config, seed) if options.new_projector else {}
    notes = (*_tuned(tuning, options), *_notes(folder, values))
    if drawn:
        notes = (f"a new projector, {options.new_projector}, drawn with seed {seed}; train it first", *notes)
    if options.vision_tower and _has_tower(theirs):
        notes = (*notes, "note: the checkpoint's own tower is used; --vision-tower tells only its form and pictures")
    return Given(folder, config, theirs, tensors_of(tower) if tower else {}, tuning, drawn, notes)


def _named(options: ConvertOptions) -> tuple[Path, dict[str, Any], adapters.Tuning]:
    """The folder of the model itself, its config.json, and what was tuned on it."""
    folder = fetch_checkpoint(options.hf_path, options.revision, tuned=options.model_base is not None)
    if folder.resolve().is_relative_to(options.mlx_path.resolve()):
        raise ConversionError(f"{options.mlx_path}: holds the checkpoint itself", "Choose another --mlx-path.")
    tuned = adapters.is_tuning(folder)
    if options.model_base is None:
        if tuned:
            raise UsageError(f"{options.hf_path}: what was tuned, without its base", "Name the base with --model-base.")
        return folder, read_json(folder / "config.json"), adapters.Tuning()
    if not tuned:
        raise UsageError(
            f"{options.hf_path}: a whole model, or neither {adapters.CONFIG} nor {adapters.PROJECTOR} in it",
            "Leave --model-base out, or name a LoRA folder.",
        )
    base = fetch_checkpoint(options.model_base)
    path = folder / "config.json"
    values = read_json(path) if path.exists() else {}
    if tower_name(values) is None and "text_config" not in values:
        values = read_json(base / "config.json")  # PEFT saves none
    return base, values, adapters.read(folder)


def _read(
    options: ConvertOptions, folder: Path, values: dict[str, Any]
) -> tuple[LlavaConfig, Mapping[str, Tensor], Path | None]:
    """The config, the checkpoint's tensors, and the folder of a tower that is kept apart."""
    if values.get("mlx_llava") is not None:
        raise ConversionError(f"{folder}: already converted", "Name the checkpoint that it was made from.")
    named = tower_name(values)
    if options.vision_tower and named is None:
        raise UsageError("--vision-tower is for checkpoints with a mm_vision_tower", "Leave it out.")
    tower = fetch_checkpoint(options.vision_tower) if options.vision_tower else None
    config = from_hf(values, vision_from_hf(read_json(tower / "config.json")) if tower else None)
    theirs = tensors_of(folder)
    if tower is None and named is not None and not _has_tower(theirs):
        tower = fetch_checkpoint(str(named))  # a published one, or from_hf would have refused it
    for place in (folder, tower) if tower else (folder,):
        config = with_images(config, place)
    config = _with_stops(config, folder)
    return replace(config, template=options.template or config.template), theirs, tower


def _has_tower(theirs: Mapping[str, Tensor]) -> bool:
    return any("vision_tower." in name for name in theirs)


def _with_stops(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the end-of-sequence ids of generation_config.json, which transformers follows too."""
    path = folder / "generation_config.json"
    keys = Section(read_json(path), path.name) if path.exists() else Section({}, path.name)
    if "eos_token_id" not in keys:
        return config
    return replace(config, eos_token_ids=keys.integers("eos_token_id", None, 0, config.text.vocab_size - 1))


def _tuned(tuning: adapters.Tuning, options: ConvertOptions) -> Iterator[str]:
    if options.model_base is not None:
        yield f"merged into {options.model_base}: {len(tuning.layers)} adapters, {len(tuning.instead)} tensors replaced"
        named = Path(tuning.base).name
        if named and named.casefold() != Path(options.model_base).name.casefold():
            yield f"note: {adapters.CONFIG} names another base, {tuning.base[:160]}"


def _notes(folder: Path, values: dict[str, Any]) -> Iterator[str]:
    """What the checkpoint holds and this converter leaves alone."""
    if named := [key for key in CODE_KEYS if values.get(key)]:
        yield f"note: {', '.join(named)} in config.json ignored: code of a checkpoint is never run"
    if any(folder.glob("chat_template.*")):
        yield "note: the checkpoint's chat template is not used; --template chooses ours"
