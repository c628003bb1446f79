"""`mlx-llava convert`: the flag names of `mlx_lm.convert`."""

from mlx_llava.convert.options import ConvertOptions
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run


def main() -> None:
    run(lambda: convert(parse(ConvertOptions, "mlx-llava convert")))


def convert(options: ConvertOptions) -> None:
    """Convert as the options say; the plan and the progress go to stderr."""
    from mlx_llava.convert.job import prepare, write
    from mlx_llava.convert.weights.progress import Progress

    job = prepare(options)
    log(*job.lines())
    if options.dry_run:
        log("dry run: nothing written")
        return
    with Progress() as progress:
        write(job, progress)
    log(f"written to {options.mlx_path}")
