"""One conversion: everything is read and decided first, then written in one go."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint import Quantization
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.folder import appearing, check_target
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.pictures import with_pictures
from mlx_llava.convert.progress import size
from mlx_llava.convert.quantize import choose, uniform
from mlx_llava.convert.survey import Source, check_head, survey
from mlx_llava.convert.vocabulary import read_tokenizer
from mlx_llava.convert.weights import DTYPES, Planned, outputs, planned, write_weights
from mlx_llava.dialects import CODE_KEYS, from_hf, to_hf, tower_name, vision_from_hf
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.hub import fetch
from mlx_llava.keys import Section, read_json
from mlx_llava.models.llava import Llava
from mlx_llava.program import printable
from mlx_llava.prompts.templates import template
from mlx_llava.shards import Reader, Tensor, read_index


@dataclass(frozen=True)
class Job:
    """A conversion that has been checked and can be written."""

    options: ConvertOptions
    source: Source
    tokenizer: bytes
    dtype: mx.Dtype
    quantized: Mapping[str, Quantization]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Bytes to be read."""
        return self.source.num_bytes

    @property
    def num_bytes_out(self) -> int:
        """Bytes of weights to be written."""
        return sum(output.num_bytes for output in outputs(self.plan()))

    def plan(self) -> list[Planned]:
        """Every weight and what becomes of it."""
        return planned(self.source.weights(), self.dtype, self.quantized)

    def lines(self) -> Iterator[str]:
        """The plan, for a person."""
        dropped = f"; {self.source.dropped} more dropped on purpose" if self.source.dropped else ""
        yield f"{self.options.hf_path}: {len(self.source.tensors)} tensors, {size(self.num_bytes)}{dropped}"
        bits = sorted({f"{q.bits} bits {q.mode}, groups of {q.group_size}" for q in self.quantized.values()})
        packed = f"; {len(self.quantized)} layers packed: {'; '.join(bits)}" if bits else ""
        yield f"{size(self.num_bytes_out)} as {str(self.dtype).removeprefix('mlx.core.')}{packed}"
        config = self.source.config
        yield f"template {config.template}, pictures {config.picture.side} pixels, {config.picture.fit}"
        yield from self.notes


def prepare(options: ConvertOptions) -> Job:
    """Read every config and header, and decide everything, before any weight is read."""
    _check(options)
    folder = fetch(options.hf_path, options.revision)
    if folder.resolve().is_relative_to(options.mlx_path.resolve()):
        raise ConversionError(f"{options.mlx_path}: holds the checkpoint itself", "Choose another --mlx-path.")
    values = read_json(folder / "config.json")
    config, theirs, tower = _read(options, folder, values)
    source = survey(config, theirs, read_index(tower) if tower else {}, str(folder))
    return Job(
        options=options,
        source=source,
        tokenizer=read_tokenizer(folder, config),
        dtype=DTYPES[options.dtype] if options.dtype else source.dtype,
        quantized=choose(Llava(config), options),
        notes=tuple(_notes(folder, values)),
    )


def write(job: Job, progress: Callable[[int], object] = lambda num_bytes: None) -> None:
    """Write the folder; a failure leaves what was there. `progress` gets the bytes that were written."""
    with appearing(job.options.mlx_path, job.options.overwrite, job.num_bytes_out) as folder:
        values = to_hf(job.source.config)
        values["mlx_llava"]["source"] = {"name": job.options.hf_path, "converter": f"mlx-llava {__version__}"}
        values["quantization"] = {path: asdict(packing) for path, packing in job.quantized.items()}
        lines = "".join(f"- {printable(line)}\n" for line in job.lines())
        (folder / "tokenizer.json").write_bytes(job.tokenizer)
        (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(f"# Converted by mlx-llava\n\n{lines}", encoding="utf-8")
        with Reader() as reader:
            check_head(reader, job.source)
        write_weights(folder, job.plan(), progress)


def _check(options: ConvertOptions) -> None:
    """Refuse what flags alone tell to be wrong, before anything is fetched."""
    uniform(options)
    if options.template is not None:
        template(options.template)
    if not options.dry_run:
        check_target(options.mlx_path, options.overwrite)


def _read(
    options: ConvertOptions, folder: Path, values: dict[str, Any]
) -> tuple[LlavaConfig, Mapping[str, Tensor], Path | None]:
    """The config, the checkpoint's tensors, and the folder of a tower that is kept apart."""
    if values.get("mlx_llava") is not None:
        raise ConversionError(f"{folder}: already converted", "Name the checkpoint that it was made from.")
    named = tower_name(values)
    if options.vision_tower and named is None:
        raise UsageError("--vision-tower is for checkpoints with a mm_vision_tower", "Leave it out.")
    tower = fetch(options.vision_tower) if options.vision_tower else None
    config = from_hf(values, vision_from_hf(read_json(tower / "config.json")) if tower else None)
    theirs = read_index(folder)
    if tower is None and named is not None and not any("vision_tower." in name for name in theirs):
        tower = fetch(str(named))  # a published one, or from_hf would have refused it
    for place in (folder, tower) if tower else (folder,):
        config = with_pictures(config, place)
    config = _with_stops(config, folder)
    return replace(config, template=options.template or config.template), theirs, tower


def _with_stops(config: LlavaConfig, folder: Path) -> LlavaConfig:
    """The config with the end-of-sequence ids of generation_config.json, which transformers follows too."""
    path = folder / "generation_config.json"
    keys = Section(read_json(path), path.name) if path.exists() else Section({}, path.name)
    if "eos_token_id" not in keys:
        return config
    return replace(config, eos_token_ids=keys.wholes("eos_token_id", None, 0, config.text.vocab_size - 1))


def _notes(folder: Path, values: dict[str, Any]) -> Iterator[str]:
    """What the checkpoint holds and this converter leaves alone."""
    if named := [key for key in CODE_KEYS if values.get(key)]:
        yield f"note: {', '.join(named)} in config.json ignored: code of a checkpoint is never run"
    if any(folder.glob("chat_template.*")):
        yield "note: the checkpoint's chat template is not used; --template chooses ours"
