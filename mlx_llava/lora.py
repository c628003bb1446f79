"""`mlx-llava lora`: tune adapters and the projector on conversations, the second stage of LLaVA on one machine.

On a packed model it is QLoRA. Run again with the same words, it goes on where it was stopped.
"""

import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mlx_llava.errors import LimitError, UsageError
from mlx_llava.options import optional, parse
from mlx_llava.program import printable, run

if TYPE_CHECKING:
    from mlx_llava.checkpoint import Checkpoint
    from mlx_llava.data.examples import Examples
    from mlx_llava.training.adapters import Lora
    from mlx_llava.training.loop import Run

INTERRUPTED = 130


@dataclass(frozen=True)
class LoraOptions:
    """Tune adapters, and the projector beside them, on conversations about pictures.

    The defaults are those of LLaVA-1.5's scripts/v1_5/finetune_lora.sh, for one machine: a batch of 16 for each of
    8 devices there is an accumulation of 8 here.
    """

    data: Path
    """LLaVA JSON or JSONL, `messages` rows, or a folder with train.jsonl."""
    adapter_path: Path
    """Folder for adapters and snapshots; a run that stopped goes on from there."""
    images: Annotated[Path | None, optional("FOLDER")] = None
    """Where the pictures lie."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder; the small model of this package unless given."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template, instead of the one recorded at conversion."""
    rank: int = 128
    """Rank of each adapter."""
    alpha: float = 256.0
    """Adapters count alpha / rank times."""
    dropout: float = 0.05
    """Share of an adapter's inputs that is dropped while training."""
    freeze_projector: bool = False
    """Train the adapters alone."""
    epochs: int = 1
    """Times through the data."""
    batch_size: int = 16
    """Conversations in a batch."""
    accumulation: int = 8
    """Batches in a step."""
    learning_rate: float = 2e-4
    """Peak learning rate of the adapters."""
    mm_projector_lr: float = 2e-5
    """Peak learning rate of the projector."""
    warmup_ratio: float = 0.03
    """Share of the steps in which the rates rise."""
    weight_decay: float = 0.0
    """Decay of what is trained, norms and biases aside."""
    max_grad_norm: Annotated[float | None, optional("NORM")] = None
    """Clip gradients to this norm; LLaVA's runs clipped nothing."""
    max_tokens: int = 2048
    """Conversations with more tokens, pictures included, are refused."""
    leave_out: bool = False
    """Leave out records that are faulty or too long, and count them, instead of refusing all."""
    as_written: bool = False
    """Leave pictures where questions have them; LLaVA moves them to the front."""
    per_batch_mean: bool = False
    """Average within each batch first, as LLaVA's runs did; otherwise every answer token counts the same."""
    seed: int = 42
    """Of the order and of all chance."""
    save_every: int = 200
    """Steps between snapshots."""
    workers: int = 2
    """Processes that prepare batches."""


def main() -> None:
    """Run the program."""
    run(lambda: lora(parse(LoraOptions, "mlx-llava lora")))


def lora(options: LoraOptions) -> int:
    """Train; the exit code."""
    check(options)
    from mlx_llava.training import adapters
    from mlx_llava.training.loop import train
    from mlx_llava.training.snapshots import sole_writer

    with sole_writer(options.adapter_path):
        checkpoint = _load(options)
        examples = _examples(options, checkpoint)
        base = adapters.fingerprint(checkpoint.folder)
        work = _prepare(options, checkpoint, examples, base)
        _say(plan(work))
        finished = train(work, _say)
        form = adapters.Lora(options.rank, options.alpha, options.dropout)
        _save(options, checkpoint, form, base)
    _say(f"adapters written to {options.adapter_path}")
    _say(f"ask with them: mlx-llava ask --model {checkpoint.folder} --adapter-path {options.adapter_path} …")
    return 0 if finished else INTERRUPTED


def _save(options: LoraOptions, checkpoint: "Checkpoint", form: "Lora", base: str) -> None:
    """Write the adapters aside and move them into place, the config last: without it they are not read."""
    from mlx_llava.training import adapters

    aside = options.adapter_path / ".adapters"
    aside.mkdir(exist_ok=True)
    adapters.save(aside, checkpoint.model, form, base, projector=not options.freeze_projector)
    for name in (adapters.ADAPTERS, adapters.PROJECTOR, adapters.CONFIG):
        if (aside / name).exists():
            (aside / name).replace(options.adapter_path / name)
    aside.rmdir()


def check(options: LoraOptions) -> None:
    """Raise UsageError for values out of range."""
    ranges = (
        ("--rank", options.rank, 1, 2**16),
        ("--alpha", options.alpha, 1e-6, 1e6),
        ("--dropout", options.dropout, 0, 0.99),
        ("--epochs", options.epochs, 1, 10_000),
        ("--batch-size", options.batch_size, 1, 4096),
        ("--accumulation", options.accumulation, 1, 4096),
        ("--learning-rate", options.learning_rate, 0, 10),
        ("--mm-projector-lr", options.mm_projector_lr, 0, 10),
        ("--warmup-ratio", options.warmup_ratio, 0, 1),
        ("--weight-decay", options.weight_decay, 0, 10),
        ("--max-grad-norm", options.max_grad_norm, 1e-9, 1e9),
        ("--max-tokens", options.max_tokens, 1, 2**20),
        ("--seed", options.seed, 0, 2**31 - 1),
        ("--save-every", options.save_every, 1, 2**31),
        ("--workers", options.workers, 0, 64),
    )
    for flag, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag} {value} is out of range", f"Give a number from {low:g} to {high:g}.")


def _load(options: LoraOptions) -> "Checkpoint":
    if options.model is None:
        from mlx_llava.embedded import load_embedded

        return load_embedded()
    from mlx_llava.checkpoint import load
    from mlx_llava.hub import fetch

    return load(fetch(options.model))


def _examples(options: LoraOptions, checkpoint: "Checkpoint") -> "Examples":
    from mlx_llava.data.dataset import read
    from mlx_llava.data.examples import Examples, Maker
    from mlx_llava.prompts.templates import template

    config = checkpoint.config
    maker = Maker(
        template=template(options.template or config.template),
        tokenizer=checkpoint.tokenizer,
        picture=config.picture,
        rows_per_crop=config.rows_per_crop,
        images=options.images,
        max_tokens=min(options.max_tokens, config.text.max_position_embeddings),
        pictures_first=not options.as_written,
    )
    dataset = read(options.data, options.images, "train", skip_bad=options.leave_out)
    examples = Examples(dataset, maker).fitting(leave_out=options.leave_out, num_workers=options.workers)
    left_out = examples.dataset.left_out
    _say(f"{len(examples)} conversations" + (f"; {len(left_out)} left out: {left_out[0]}, …" if left_out else ""))
    return examples


def _prepare(options: LoraOptions, checkpoint: "Checkpoint", examples: "Examples", base: str) -> "Run":
    import mlx.core as mx

    from mlx_llava.data.batches import Order
    from mlx_llava.training import adapters
    from mlx_llava.training.loop import Run
    from mlx_llava.training.optimizer import AdamW, OptimizerOptions
    from mlx_llava.training.step import Part, train_only

    mx.random.seed(options.seed)
    adapters.attach(checkpoint.model, adapters.Lora(options.rank, options.alpha, options.dropout))
    parts: tuple[Part, ...] = ("adapters",) if options.freeze_projector else ("adapters", "projector")
    train_only(checkpoint.model, *parts)
    rates = OptimizerOptions(
        options.learning_rate, options.mm_projector_lr, options.weight_decay, options.max_grad_norm
    )
    lengths = examples.dataset.lengths
    return Run(
        model=checkpoint.model,
        optimizer=AdamW(checkpoint.model, rates),
        examples=examples,
        order=Order(lengths, options.batch_size, options.accumulation, options.seed),
        num_epochs=options.epochs,
        warmup_ratio=options.warmup_ratio,
        per_batch_mean=options.per_batch_mean,
        save_every=options.save_every,
        num_workers=options.workers,
        folder=options.adapter_path,
        identity=identity(options, examples.dataset.fingerprint, base),
    )


def identity(options: LoraOptions, data: str, base: str) -> dict[str, Any]:
    """What must be the same for a run to go on; where things lie and how often they are saved may change."""
    free = ("data", "images", "model", "adapter_path", "save_every", "workers")
    settings = {name: value for name, value in asdict(options).items() if name not in free}
    return {**settings, "data": data, "model": base}


def plan(work: "Run") -> str:
    """What is trained, in how many steps, and the memory that weights and their training state take.

    Raises LimitError where that alone does not fit.
    """
    from mlx.utils import tree_flatten

    from mlx_llava import backend

    weights = sum(x.nbytes for _, x in tree_flatten(work.model.parameters()))  # pyright: ignore
    trained = sum(x.size for x in work.optimizer.masters.values())
    memory = weights + 16 * trained  # master, two moments and a gradient, four bytes each
    free = backend.memory_limit() + weights  # the weights are there already
    if memory > free:
        raise LimitError(
            f"weights and training state take {memory / 1e9:.1f} GB of {free / 1e9:.1f} GB",
            "Use a packed model (convert -q), or a lower --rank.",
        )
    return (
        f"{trained / 1e6:.2f} million parameters trained, {work.num_steps} steps of up to "
        f"{work.order.batch_size * work.order.accumulation} conversations; weights and training state "
        f"{memory / 1e9:.2f} GB, activations come on top"
    )


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
