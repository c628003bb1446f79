"""`mlx-llava lora`: tune adapters and the projector on conversations, the second stage of LLaVA on one machine.

On a packed model it is QLoRA. Run again with the same words, it goes on where it was stopped.
"""

from dataclasses import dataclass
from pathlib import Path

from mlx_llava.program.options import parse
from mlx_llava.program.run import run
from mlx_llava.training.prepare import INTERRUPTED, TuningOptions, check, config_of, load_base, prepare, say, train


@dataclass(frozen=True, kw_only=True)
class LoraOptions(TuningOptions):
    """Tune adapters, and the projector beside them, on conversations about pictures.

    The defaults are those of LLaVA-1.5's scripts/v1_5/finetune_lora.sh, for one machine: a batch of 16 for each of
    8 devices there is an accumulation of 8 here.
    """

    adapter_path: Path
    """Folder for adapters and snapshots; a run that stopped goes on from there."""
    rank: int = 128
    """Rank of each adapter."""
    alpha: float = 256.0
    """Adapters count alpha / rank times."""
    dropout: float = 0.05
    """Share of an adapter's inputs that is dropped while training."""
    freeze_projector: bool = False
    """Train the adapters alone."""
    learning_rate: float = 2e-4
    """Peak learning rate of the adapters."""
    mm_projector_lr: float = 2e-5
    """Peak learning rate of the projector."""


def main() -> None:
    """Run the program."""
    run(lambda: lora(parse(LoraOptions, "mlx-llava lora")))


def lora(options: LoraOptions) -> int:
    """Train; the exit code."""
    check(options)
    from mlx_llava.checkpoint import adapters
    from mlx_llava.models.lora import Lora, attach
    from mlx_llava.training.snapshots import sole_writer

    form = Lora(options.rank, options.alpha, options.dropout)
    with sole_writer(options.adapter_path):
        base = load_base(options)
        model = base.checkpoint.model
        attach(model, form)
        parts = ("adapters",) if options.freeze_projector else ("adapters", "projector")
        work = prepare(options, base, options.adapter_path, *parts, projector_lr=options.mm_projector_lr)
        finished = train(work)
        other_projector = not options.freeze_projector or options.projector is not None
        asked = config_of(options, base.checkpoint.config)
        target, told = options.adapter_path, base.fingerprint
        adapters.save(target, model, form, told, projector=other_projector, config=asked)
    say(f"adapters written to {options.adapter_path}")
    say(f"ask with them: mlx-llava ask --model {base.checkpoint.folder} --adapter-path {options.adapter_path} …")
    return 0 if finished else INTERRUPTED


if __name__ == "__main__":
    main()
