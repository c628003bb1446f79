"""`mlx-llava fuse`: merge adapters into the converted model they were trained on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mlx_llava.catalog.pulled import place
from mlx_llava.convert.options import QuantizeOptions
from mlx_llava.errors import UsageError
from mlx_llava.program.flags import Examples, flag
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run


@dataclass(frozen=True, kw_only=True)
class FuseOptions(QuantizeOptions):
    """Merge adapters into the model they were trained on.

    A quantized model is quantized again as before, unless -q or --dequantize is given.
    """

    examples: Examples = ("mlx-llava fuse --adapter-path adapters --mlx-path merged",)

    model: Annotated[str | None, flag("MODEL", "-m")] = None
    """Converted folder the adapters belong to; otherwise the small bundled model."""
    adapter_path: Annotated[Path, flag("FOLDER")]
    """Folder of the adapters, or of a projector alone."""
    mlx_path: Annotated[Path, flag("FOLDER", "--save-path")]
    """Folder to write. It appears whole or not at all."""
    dequantize: bool = False
    """Write a quantized model without quantization."""
    overwrite: bool = False
    """Replace an existing output folder."""


def main() -> None:
    run(lambda: fuse(parse(FuseOptions, "mlx-llava fuse")))


def fuse(options: FuseOptions) -> None:
    """Write the merged folder; the plan and the progress go to stderr."""
    from mlx_llava.convert.targets.fuse import prepare, write
    from mlx_llava.convert.weights.output_folder import check_apart, check_target
    from mlx_llava.convert.weights.progress import Progress
    from mlx_llava.convert.weights.quantize import check_flags
    from mlx_llava.resolve import folder_of

    if options.dequantize and options.quantize:
        raise UsageError("--dequantize and -q exclude each other", "Leave one out.")
    check_flags(options)
    check_apart(options.mlx_path, place(options.model), options.adapter_path)
    check_target(options.mlx_path, options.overwrite)
    base = folder_of(options.model)
    merge = prepare(base, options.model, options.adapter_path, options, dequantize=options.dequantize)
    log(*merge.lines())
    with Progress() as progress:
        write(merge, options.mlx_path, overwrite=options.overwrite, progress=progress)
    log(f"written to {options.mlx_path}")


if __name__ == "__main__":
    main()
