"""`mlx-llava finetune`: train the language model and the projector on conversations, LLaVA's second stage in full.

Run the same command again to resume.
"""

from pathlib import Path

from mlx_llava.catalog.pulled import place
from mlx_llava.program.limits import check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.training.options import FinetuneOptions


def main() -> None:
    run(lambda: finetune(parse(FinetuneOptions, "mlx-llava finetune")))


def finetune(options: FinetuneOptions) -> int:
    """Train and write the model; returns the exit code."""
    check_limits(options)
    from mlx_llava.convert.targets.rewrite import rewrite
    from mlx_llava.convert.weights.output_folder import check_apart, check_target
    from mlx_llava.training.prepare import INTERRUPTED, command, load_base, prepare, train
    from mlx_llava.training.snapshots import sole_writer

    target = options.mlx_path
    run_path = options.run_path or Path(f"{target}.run")
    check_apart(target, run_path, place(options.model), options.projector, options.data)
    check_target(target, options.overwrite)
    with sole_writer(run_path):
        base = load_base(options)
        work = prepare(options, base, run_path, "language_model", "projector", projector_lr=options.mm_projector_lr)
        if not train(work):
            return INTERRUPTED
        checkpoint, weights = base.checkpoint, work.optimizer.masters
        rewrite(checkpoint, checkpoint.config, weights, target, dtype=options.dtype, overwrite=options.overwrite)
    log(f"model written to {target}; the snapshots in {run_path} can be deleted")
    log(f"to try it: {command('ask', target, 'photo.jpg', 'What is this?')}")
    return 0


if __name__ == "__main__":
    main()
