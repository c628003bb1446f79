"""`python -m mlx_llava.convert`: the flag names of `mlx_lm.convert`."""

import sys
from functools import partial

from mlx_llava.convert.options import ConvertOptions
from mlx_llava.program.options import parse
from mlx_llava.program.run import printable, run


def main() -> None:
    """Run the converter."""
    run(lambda: convert(parse(ConvertOptions, "mlx-llava convert")))


def convert(options: ConvertOptions) -> None:
    """Convert as the options say; the plan and the progress go to stderr."""
    say = partial(print, file=sys.stderr)
    from mlx_llava.convert.job import prepare, write
    from mlx_llava.convert.weights.progress import Progress

    job = prepare(options)
    for line in job.lines():
        say(printable(line))
    if options.dry_run:
        say("dry run: nothing written")
        return
    with Progress(job.num_bytes_out) as progress:
        write(job, progress)
    say(f"written to {printable(str(options.mlx_path))}")
