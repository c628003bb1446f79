"""One conversion: what is read, what will be written, and a folder that appears whole or not at all."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from mlx_llava import __version__
from mlx_llava.checkpoint import Quantization, load_tokenizer
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.pictures import with_pictures
from mlx_llava.convert.quantize import choose, recipe, uniform
from mlx_llava.convert.vocabulary import write_tokenizer
from mlx_llava.convert.weights import DTYPES, Source, outputs, survey, write_weights
from mlx_llava.dialects import CODE_KEYS, from_hf, to_hf, vision_from_hf
from mlx_llava.errors import ConversionError
from mlx_llava.hub import fetch
from mlx_llava.keys import Section, read_json
from mlx_llava.models.llava import Llava
from mlx_llava.prompts.templates import TEMPLATES
from mlx_llava.shards import read_index


@dataclass(frozen=True)
class Job:
    """A conversion that has been checked and can be written."""

    options: ConvertOptions
    folder: Path
    source: Source
    dtype: mx.Dtype
    quantized: Mapping[str, Quantization]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes to be read."""
        return sum(tensor.num_bytes for tensor in self.source.tensors.values())

    def lines(self) -> Iterator[str]:
        """The plan, for a person."""
        written = sum(o.num_bytes for o in outputs(self.source, self.dtype, self.quantized))
        count = len(self.source.tensors)
        yield f"{self.folder}: {count} tensors, {self.num_bytes / 1e9:.2f} GB; {self.source.dropped} dropped on purpose"
        bits = sorted({f"{q.bits} bits {q.mode}, groups of {q.group_size}" for q in self.quantized.values()})
        kept = str(self.dtype).removeprefix("mlx.core.")
        yield f"{written / 1e9:.2f} GB as {kept}" + (
            f"; {len(self.quantized)} layers packed: {'; '.join(bits)}" if bits else ""
        )
        config = self.source.config
        yield f"template {config.template}, pictures {config.picture.side} pixels, {config.picture.fit}"
        yield from self.notes


def prepare(options: ConvertOptions) -> Job:
    """Read every config and header, and decide everything, before any weight is read."""
    folder = fetch(options.hf_path, options.revision)
    values = read_json(folder / "config.json")
    if "mlx_llava" in values:
        raise ConversionError(f"{folder}: already converted", "Name the checkpoint that it was made from.")
    theirs = read_index(folder)
    tower = _tower(options, values, theirs)
    vision = vision_from_hf(read_json(tower / "config.json")) if tower else None
    config = _with_stops(with_pictures(from_hf(values, vision), folder), folder)
    if options.template is not None:
        config = replace(config, template=options.template)
    if config.template not in TEMPLATES:
        raise ConversionError(
            f"--template {config.template}: no such template", "Use one of " + ", ".join(TEMPLATES) + "."
        )
    source = survey(config, theirs, read_index(tower) if tower else {}, str(folder))
    dtype = DTYPES[options.dtype] if options.dtype else source.dtype
    quantized = choose(Llava(config), _settings(options, config), options.q_tower) if options.quantize else {}
    return Job(options, folder, source, dtype, quantized, tuple(_notes(folder, values)))


def write(job: Job, overwrite: bool = False, progress: Callable[[int], object] = lambda num_bytes: None) -> None:
    """Build the folder aside, then rename it into place; a failure leaves what was there.

    `progress` gets the number of bytes whenever some have been read and written.
    """
    target = job.options.mlx_path.absolute()
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _fill(aside, job, progress)
        aside.chmod(0o755)
        _swap(aside, target, overwrite)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _fill(folder: Path, job: Job, progress: Callable[[int], object]) -> None:
    write_tokenizer(job.folder, folder)
    load_tokenizer(folder, job.source.config)
    values = to_hf(job.source.config)
    values["mlx_llava"]["source"] = {"name": job.options.hf_path, "converter": f"mlx-llava {__version__}"}
    values["quantization"] = {path: asdict(packing) for path, packing in job.quantized.items()}
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n")
    (folder / "README.md").write_text("# Converted by mlx-llava\n\n" + "".join(f"- {line}\n" for line in job.lines()))
    write_weights(folder, job.source, job.dtype, job.quantized, progress)


def _swap(aside: Path, target: Path, overwrite: bool) -> None:
    """Put `aside` in the place of `target`; an old folder is moved away first and removed last."""
    if not target.exists():
        aside.rename(target)
    elif not overwrite:
        raise ConversionError(f"{target}: appeared meanwhile", "Choose another --mlx-path, or add --overwrite.")
    else:
        old = Path(tempfile.mkdtemp(prefix=f".{target.name}-old-", dir=target.parent))
        target.rename(old / "replaced")
        aside.rename(target)
        shutil.rmtree(old)
    directory = os.open(target.parent, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def _with_stops(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the end-of-sequence ids of generation_config.json, which transformers follows too."""
    path = folder / "generation_config.json"
    keys = Section(read_json(path), path.name) if path.exists() else Section({}, path.name)
    if "eos_token_id" not in keys:
        return config
    return replace(config, eos_token_ids=keys.wholes("eos_token_id", 2, 0, config.text.vocab_size - 1))


def _tower(options: ConvertOptions, values: dict[str, Any], theirs: Iterable[str]) -> Path | None:
    """Folder of a tower that is kept apart, as original LLaVA keeps it: the one asked for, or the one it names."""
    if options.vision_tower:
        return fetch(options.vision_tower)
    named = values.get("mm_vision_tower")
    inside = any("vision_tower." in name for name in theirs)
    return fetch(named) if isinstance(named, str) and not inside else None


def _settings(options: ConvertOptions, config: LlavaConfig) -> Callable[[str, nn.Module], Quantization]:
    packing = uniform(options.q_mode, options.q_group_size, options.q_bits)
    if options.q_recipe:
        return recipe(options.q_recipe, Llava(config), packing.group_size)
    return lambda path, module: packing


def _notes(folder: Path, values: dict[str, Any]) -> Iterator[str]:
    """What the checkpoint holds and this converter leaves alone."""
    if named := [key for key in CODE_KEYS if values.get(key)]:
        yield f"note: {', '.join(named)} in config.json ignored: code of a checkpoint is never run"
    if any(folder.glob("chat_template.*")):
        yield "note: the checkpoint's chat template is not used; --template chooses ours"
