"""`mlx-llava pretrain`: train only the projector on images and captions, LLaVA's first stage.

Run the same command again to resume.
"""

from mlx_llava.errors import UsageError
from mlx_llava.program.limits import check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.training.options import PretrainOptions


def main() -> None:
    run(lambda: pretrain(parse(PretrainOptions, "mlx-llava pretrain")))


def pretrain(options: PretrainOptions) -> int:
    """Train and write the projector; returns the exit code."""
    check_limits(options)
    if options.new_projector and options.projector:
        raise UsageError("--new-projector and --projector exclude each other", "Give one of them.")
    from mlx_llava.checkpoint import adapters
    from mlx_llava.models.projector import reinitialize
    from mlx_llava.training.prepare import INTERRUPTED, command, load_base, prepare, train
    from mlx_llava.training.snapshots import sole_writer

    folder = options.adapter_path
    with sole_writer(folder):
        base = load_base(options)
        if options.new_projector:
            reinitialize(base.checkpoint.model.projector, options.seed)
        finished = train(prepare(options, base, folder, "projector", projector_lr=None))
        adapters.save(folder, base.checkpoint.model, None, base.fingerprint, projector=True)
    log(f"projector written to {folder}")
    log(f"next stage: {command('finetune', options.model, '--projector', folder)} …")
    return 0 if finished else INTERRUPTED


if __name__ == "__main__":
    main()
