"""`mlx-llava export`: a converted folder as the llava-hf folder that transformers reads, or its adapter as PEFT's."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava import __version__
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.run import printable, run

if TYPE_CHECKING:
    from mlx_llava.convert.sources.converted import Converted
    from mlx_llava.convert.targets.image_token import Vocabulary

CARD = """---
library_name: transformers
pipeline_tag: image-text-to-text
---
# {source}, exported by mlx-llava {version}

A LLaVA in the layout of llava-hf, for `LlavaForConditionalGeneration` and `AutoProcessor` of transformers.

{notes}
"""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a converted folder in the layout of llava-hf."""

    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder; the small model of this package unless given."""
    hf_path: Path
    """Folder to write. It appears whole or not at all."""
    adapter_path: Annotated[Path | None, optional("FOLDER")] = None
    """Adapters of the model, to be merged."""
    dtype: Annotated[Literal["float16", "bfloat16", "float32"] | None, optional("{float16,bfloat16,float32}")] = None
    """Number type to write; the model's own unless given. Packed weights are unpacked to it."""
    peft: bool = False
    """Write the adapters alone, as a PEFT folder."""


def main() -> None:
    """Run the program."""
    run(lambda: export(parse(ExportOptions, "mlx-llava export")))


def export(options: ExportOptions) -> None:
    """Write what the options ask for; what is worth knowing goes to stderr."""
    if options.peft and options.adapter_path is None:
        raise UsageError("--peft without --adapter-path", "Name the folder of adapters.")
    if options.hf_path.exists():
        raise ConversionError(f"{options.hf_path}: already there", "Choose another --hf-path.")
    from mlx_llava.convert.sources.converted import read
    from mlx_llava.resolve import folder_of

    folder = folder_of(options.model)
    converted = read(folder, options.model or folder.name, options.adapter_path)
    if options.peft:
        from mlx_llava.convert.targets.peft import write_peft

        write_peft(options.hf_path, converted, options.dtype or "float32")
    else:
        _write(options, converted, (folder / "tokenizer.json").read_bytes())
    print(f"written to {printable(str(options.hf_path))}", file=sys.stderr)


def _write(options: ExportOptions, converted: "Converted", tokenizer: bytes) -> None:
    from mlx_llava.convert.targets.image_token import with_image_token
    from mlx_llava.convert.targets.llava_hf import check_form, released_weights, write_files
    from mlx_llava.convert.weights.output_folder import appearing
    from mlx_llava.convert.weights.plan import DTYPES, outputs, planned, write_weights
    from mlx_llava.convert.weights.progress import Progress

    check_form(converted.config)
    vocabulary = with_image_token(tokenizer, converted.config)
    dtype = DTYPES[options.dtype] if options.dtype else converted.dtype
    plan = planned(released_weights(converted.weights(), vocabulary.num_rows), dtype)
    num_bytes = sum(output.num_bytes for output in outputs(plan))
    notes = [*_notes(options, converted, vocabulary)]
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)
    with appearing(options.hf_path, overwrite=False, num_bytes=num_bytes) as folder, Progress(num_bytes) as progress:
        write_files(folder, converted.config, vocabulary, str(dtype).removeprefix("mlx.core."))
        lines = "\n".join(f"- {printable(note)}" for note in notes)
        card = CARD.format(source=printable(converted.source), version=__version__, notes=lines)
        (folder / "README.md").write_text(card, encoding="utf-8")
        write_weights(folder, plan, progress, "pt")


def _notes(options: ExportOptions, converted: "Converted", vocabulary: "Vocabulary") -> Iterator[str]:
    """What differs from the checkpoint that the folder was made from."""
    config = converted.config
    yield f"prompt template {config.template}, pictures {config.image.side} pixels, {config.image.fit}"
    if converted.tuned:
        yield f"adapters merged: {len(converted.tuned.layers)} layers" + (
            " and the projector" if converted.tuned.projector else ""
        )
    if converted.quantized:
        yield f"{len(converted.quantized)} layers were packed: what packing lost is not in these weights"
    if new := vocabulary.num_rows - config.text.vocab_size:
        yield (
            f"<image> and <pad> are new tokens; the embedding has {new} more rows, each the mean of the others, which "
            "no prompt uses"
        )
    if config.restart_after_image:
        yield "original LLaVA starts a new string after a picture; here the text goes on, one space differs"
    if config.template not in ("vicuna_v1", "v1"):
        yield f"to convert this folder again, add --template {config.template}"


if __name__ == "__main__":
    main()
