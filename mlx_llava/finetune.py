"""`mlx-llava finetune`: train Vicuna and the projector on conversations, the second stage of LLaVA in full.

Run again with the same words, it goes on where it was stopped.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlx_llava.program.options import optional, parse
from mlx_llava.program.run import run
from mlx_llava.training.prepare import INTERRUPTED, TuningOptions, check, config_of, load_base, prepare, say, train


@dataclass(frozen=True, kw_only=True)
class FinetuneOptions(TuningOptions):
    """Train Vicuna and the projector on conversations, with pictures or without; the tower stays as it is.

    The defaults are those of LLaVA-1.5's scripts/v1_5/finetune.sh, for one machine: a batch of 16 for each of
    8 devices there is an accumulation of 8 here.
    """

    mlx_path: Path
    """Folder for the tuned model, complete; it appears at the end of the run."""
    run_path: Annotated[Path | None, optional("FOLDER")] = None
    """Folder for snapshots and metrics, from which a stopped run goes on: MLX_PATH.run unless given."""
    overwrite: bool = False
    """Replace a tuned or converted folder at --mlx-path."""
    dtype: Annotated[Literal["float16", "bfloat16", "float32"] | None, optional("DTYPE")] = None
    """Of the written weights: float16, bfloat16 or float32; as in the base unless given."""
    mm_projector_lr: Annotated[float | None, optional("RATE")] = None
    """Peak learning rate of the projector; the same unless given."""


def main() -> None:
    """Run the program."""
    run(lambda: finetune(parse(FinetuneOptions, "mlx-llava finetune")))


def finetune(options: FinetuneOptions) -> int:
    """Train; the exit code."""
    check(options)
    from mlx_llava.convert.targets.rewrite import rewrite
    from mlx_llava.convert.weights.output_folder import check_apart, check_target
    from mlx_llava.training.snapshots import sole_writer

    target = options.mlx_path
    run_path = options.run_path or Path(f"{target}.run")
    check_apart(target, run_path, options.model, options.projector, options.data)
    check_target(target, options.overwrite)
    with sole_writer(run_path):
        base = load_base(options)
        parts = ("language_model", "projector")
        work = prepare(options, base, run_path, *parts, projector_lr=options.mm_projector_lr)
        if not train(work):
            return INTERRUPTED
        config = config_of(options, base.checkpoint.config)
        weights = work.optimizer.masters
        rewrite(base.checkpoint, config, weights, target, dtype=options.dtype, overwrite=options.overwrite)
    say(f"model written to {target}; snapshots in {run_path} can go")
    say(f"ask it: mlx-llava ask --model {target} …")
    return 0


if __name__ == "__main__":
    main()
