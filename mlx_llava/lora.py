"""`mlx-llava lora`: train LoRA adapters and the projector on conversations, LLaVA's second stage on one machine.

On a quantized model this is QLoRA. Run the same command again to resume.
"""

from mlx_llava.program.limits import check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.training.options import LoraOptions


def main() -> None:
    run(lambda: lora(parse(LoraOptions, "mlx-llava lora")))


def lora(options: LoraOptions) -> int:
    """Train and write the adapters; returns the exit code."""
    check_limits(options)
    from mlx_llava.checkpoint import adapters
    from mlx_llava.models.lora import Lora
    from mlx_llava.training.prepare import INTERRUPTED, command, load_base, prepare, train
    from mlx_llava.training.snapshots import sole_writer
    from mlx_llava.training.start_adapters import attach_adapters, start_folder

    start = start_folder(options)
    folder, settings = options.adapter_path, Lora(options.rank, options.alpha, options.dropout)
    with sole_writer(folder):
        base = load_base(options)
        model = base.checkpoint.model
        attach_adapters(start, base.checkpoint, base.fingerprint, settings)
        parts = ("adapters",) if options.freeze_projector else ("adapters", "projector")
        finished = train(prepare(options, base, folder, *parts, projector_lr=options.mm_projector_lr))
        started = options.projector or (start and (start / adapters.PROJECTOR).exists())
        new_projector = not options.freeze_projector or bool(started)
        adapters.save(folder, model, settings, base.fingerprint, projector=new_projector, config=base.checkpoint.config)
    log(f"adapters written to {folder}")
    log(f"to try them: {command('ask', options.model, '--adapter-path', folder, 'photo.jpg', 'What is this?')}")
    return 0 if finished else INTERRUPTED


if __name__ == "__main__":
    main()
