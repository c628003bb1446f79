"""One conversion: everything is read and decided first, then written in one go."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.quantization import Quantization
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.sources.reading import gather
from mlx_llava.convert.sources.survey import Source, check_head, survey
from mlx_llava.convert.sources.vocabulary import read_tokenizer
from mlx_llava.convert.torch_bin.archive import check_sums
from mlx_llava.convert.weights.output_folder import appearing, check_target
from mlx_llava.convert.weights.plan import DTYPES, Planned, outputs, planned, write_weights
from mlx_llava.convert.weights.progress import size
from mlx_llava.convert.weights.quantize import choose, uniform
from mlx_llava.models.llava import Llava
from mlx_llava.program.run import printable
from mlx_llava.prompts.templates import template


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
        yield f"template {config.template}, pictures {config.image.side} pixels, {config.image.fit}"
        yield from self.notes


def prepare(options: ConvertOptions) -> Job:
    """Read every config and header, and decide everything, before any weight is read."""
    _check(options)
    given = gather(options)
    source = survey(given, str(given.folder))
    return Job(
        options=options,
        source=source,
        tokenizer=read_tokenizer(given.folder, given.config),
        dtype=DTYPES[options.dtype] if options.dtype else source.dtype,
        quantized=choose(Llava(given.config), options),
        notes=given.notes,
    )


def write(job: Job, progress: Callable[[int], object] = lambda num_bytes: None) -> None:
    """Write the folder; a failure leaves what was there. `progress` gets the bytes that were written."""
    with appearing(job.options.mlx_path, job.options.overwrite, job.num_bytes_out) as folder:
        values = to_hf(job.source.config)
        base = {"base": job.options.model_base} if job.options.model_base else {}
        source = {"name": job.options.hf_path, **base, "converter": f"mlx-llava {__version__}"}
        values["mlx_llava"]["source"] = source
        values["quantization"] = {path: asdict(packing) for path, packing in job.quantized.items()}
        lines = "".join(f"- {printable(line)}\n" for line in job.lines())
        (folder / "tokenizer.json").write_bytes(job.tokenizer)
        (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        (folder / "README.md").write_text(f"# Converted by mlx-llava\n\n{lines}", encoding="utf-8")
        check_sums(job.source.all_tensors)
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
