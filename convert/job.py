"""One conversion: everything is read and decided first, then written in one go."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import mlx.core as mx

from mlx_llava import __version__
from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.sources.gather import gather
from mlx_llava.convert.sources.inventory import Inventory, check_head, take_inventory
from mlx_llava.convert.sources.vocabulary import read_tokenizer
from mlx_llava.convert.torch_bin.archive import check_sums
from mlx_llava.convert.weights.output_folder import appearing, card, check_target, write_files
from mlx_llava.convert.weights.plan import DTYPES, OnBytes, Planned, ignore, plan_weights, size_of, write_weights
from mlx_llava.convert.weights.quantize import Choice, check_flags, choose
from mlx_llava.models.llava import Llava
from mlx_llava.program.limits import check_limits
from mlx_llava.program.text import size
from mlx_llava.prompts.templates import template


@dataclass(frozen=True)
class Job:
    """A conversion that has been checked and can be written."""

    options: ConvertOptions
    inventory: Inventory
    tokenizer: bytes
    dtype: mx.Dtype
    choice: Choice

    def plan(self) -> list[Planned]:
        """Every weight and the form to write it in."""
        return plan_weights(self.inventory.weights(), self.dtype, self.choice.table)

    def lines(self) -> Iterator[str]:
        """The plan as text."""
        inventory, config = self.inventory, self.inventory.inputs.config
        dropped = f"; {inventory.dropped} more dropped on purpose" if inventory.dropped else ""
        read = sum(tensor.num_bytes for tensor in inventory.tensors.values())
        yield f"{self.options.hf_path}: {len(inventory.tensors)} tensors, {size(read)}{dropped}"
        quantized = f"; {self.choice.summary()}" if self.choice.table else ""
        yield f"{size(size_of(self.plan()))} as {str(self.dtype).removeprefix('mlx.core.')}{quantized}"
        yield f"template {config.template}, images {config.image.side} pixels, {config.image.fit}"
        yield from self.choice.notes()
        yield from inventory.inputs.notes


def prepare(options: ConvertOptions) -> Job:
    """Read every config and header, and decide everything, before any weight is read."""
    check_limits(options)  # flags that cannot work, before anything is downloaded
    check_flags(options)
    if options.template is not None:
        template(options.template)
    if not options.dry_run:
        check_target(options.mlx_path, options.overwrite)
    inputs = gather(options)
    inventory = take_inventory(inputs)
    return Job(
        options=options,
        inventory=inventory,
        tokenizer=read_tokenizer(inputs.folder, inputs.config),
        dtype=DTYPES[options.dtype] if options.dtype else inventory.dtype,
        choice=choose(Llava(inputs.config), options),
    )


def write(job: Job, progress: OnBytes = ignore) -> None:
    """Write the folder; a failure leaves what was there."""
    options, values = job.options, to_hf(job.inventory.inputs.config)
    base = {"base": options.model_base} if options.model_base else {}
    values["mlx_llava"]["source"] = {"name": options.hf_path, **base, "converter": f"mlx-llava {__version__}"}
    values["quantization"] = {path: asdict(quantization) for path, quantization in job.choice.table.items()}
    plan = job.plan()
    with appearing(options.mlx_path, options.overwrite, size_of(plan)) as folder:
        write_files(folder, values, job.tokenizer, card("Converted by mlx-llava", job.lines()))
        check_sums(job.inventory.all_tensors)
        with Reader() as reader:
            check_head(reader, job.inventory)
        write_weights(folder, plan, progress)
