"""`python -m mlx_llava.convert`: the flag names of `mlx_lm.convert`."""

import sys
from functools import partial

from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.options import parse
from mlx_llava.program import printable, run


def main() -> None:
    """Run the converter."""
    run(lambda: convert(parse(ConvertOptions, "python -m mlx_llava.convert")))


def convert(options: ConvertOptions) -> None:
    """Convert as the options say; the plan and the progress go to stderr."""
    _check(options)
    say = partial(print, file=sys.stderr)
    from mlx_llava.convert.job import prepare, write
    from mlx_llava.convert.progress import Progress

    job = prepare(options)
    for line in job.lines():
        say(printable(line))
    if options.dry_run:
        say("dry run: nothing written")
        return
    write(job, options.overwrite, Progress(job.num_bytes))
    say(f"written to {printable(str(options.mlx_path))}")


def _check(options: ConvertOptions) -> None:
    asked = [flag for flag, value in (("--q-bits", options.q_bits), ("--q-recipe", options.q_recipe)) if value]
    if len(asked) == 2:
        raise UsageError("--q-bits and --q-recipe exclude each other", "Leave one out.")
    if options.q_recipe and options.q_mode != "affine":
        raise UsageError(f"--q-recipe is affine, not {options.q_mode}", "Leave --q-mode out.")
    if not options.quantize and (asked or options.q_group_size or options.q_tower or options.q_mode != "affine"):
        raise UsageError("quantization flags without -q", "Add -q to quantize.")
    if options.mlx_path.exists() and not options.overwrite and not options.dry_run:
        raise ConversionError(f"{options.mlx_path}: already there", "Choose another --mlx-path, or add --overwrite.")
