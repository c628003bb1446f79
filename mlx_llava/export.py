"""`mlx-llava export`: write a converted folder as the folder transformers reads, or its adapters as PEFT's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mlx_llava.catalog.pulled import place
from mlx_llava.config import Dtype
from mlx_llava.errors import UsageError
from mlx_llava.program.flags import Examples, flag
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a converted folder in the layout of llava-hf."""

    examples: Examples = ("mlx-llava export --model llava-4bit --hf-path llava-hf --dtype float16",)

    model: Annotated[str | None, flag("MODEL", "-m")] = None
    """Converted folder; otherwise the small bundled model."""
    hf_path: Annotated[Path, flag("FOLDER")]
    """Folder to write. It appears whole or not at all."""
    adapter_path: Annotated[Path | None, flag("FOLDER")] = None
    """Adapters of the model to merge."""
    dtype: Dtype | None = None
    """Data type to write; otherwise the model's own. Quantized weights are dequantized to it."""
    peft: bool = False
    """Write only the adapters, as a PEFT folder."""
    overwrite: bool = False
    """Replace an existing output folder."""


def main() -> None:
    run(lambda: export(parse(ExportOptions, "mlx-llava export")))


def export(options: ExportOptions) -> None:
    """Write the folder; notes and progress go to stderr."""
    if options.peft and options.adapter_path is None:
        raise UsageError("--peft without --adapter-path", "Name the folder of adapters.")
    from mlx_llava.convert.sources.converted_folder import read
    from mlx_llava.convert.targets.export import prepare, write
    from mlx_llava.convert.targets.peft import write_peft
    from mlx_llava.convert.weights.output_folder import EXPORTED, check_apart, check_target
    from mlx_llava.convert.weights.progress import Progress
    from mlx_llava.resolve import folder_of

    check_apart(options.hf_path, place(options.model), options.adapter_path, kind=EXPORTED)
    check_target(options.hf_path, options.overwrite, EXPORTED)
    path = folder_of(options.model)
    folder = read(path, options.model or path.name, options.adapter_path)
    if options.peft:
        write_peft(options.hf_path, folder, options.dtype or "float32", overwrite=options.overwrite)
    else:
        work = prepare(folder, options.dtype)
        log(*(f"note: {line}" for line in work.lines()))
        with Progress() as progress:
            write(work, options.hf_path, overwrite=options.overwrite, progress=progress)
    log(f"written to {options.hf_path}")


if __name__ == "__main__":
    main()
