"""What every program that tunes a LLaVA does, whatever part of it: settings, a checked start, the run, its end.

A program loads a base here, brings it into the form that it trains, prepares the run, and writes what became of it.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mlx_llava.errors import UsageError
from mlx_llava.program.options import optional
from mlx_llava.program.run import printable

if TYPE_CHECKING:
    from mlx_llava.checkpoint.folder import Checkpoint
    from mlx_llava.config import LlavaConfig
    from mlx_llava.data.dataset import Dataset
    from mlx_llava.data.examples import Examples
    from mlx_llava.training.loop import Run
    from mlx_llava.training.step import Part

INTERRUPTED = 130
RANGES: Mapping[str, tuple[float, float]] = {
    "rank": (1, 2**16),
    "alpha": (1e-6, 1e6),
    "dropout": (0, 0.99),
    "epochs": (1, 10_000),
    "batch_size": (1, 4096),
    "accumulation": (1, 4096),
    "learning_rate": (0, 10),
    "mm_projector_lr": (0, 10),
    "warmup_ratio": (0, 1),
    "weight_decay": (0, 10),
    "max_grad_norm": (1e-9, 1e9),
    "max_tokens": (1, 2**20),
    "seed": (0, 2**31 - 1),
    "save_every": (1, 2**31),
    "workers": (0, 64),
}
# Where things lie, how often they are saved and how they are written may change between two parts of a run.
FREE = frozenset(
    "data images model recipe projector adapter_path mlx_path run_path overwrite dtype save_every workers "
    "cache_features recompute".split()
)


@dataclass(frozen=True, kw_only=True)
class TuningOptions:
    """The settings that all programs for tuning have."""

    data: Path
    """LLaVA JSON or JSONL, `messages` rows, or a folder with train.jsonl, and valid.jsonl to tell its loss too."""
    images: Annotated[Path | None, optional("FOLDER")] = None
    """Where the pictures lie; text needs none."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder; the small model of this package unless given."""
    recipe: Annotated[str | None, optional("RECIPE")] = None
    """TOML file with defaults for these flags, or the name of one in this package, such as v1_5_7b_lora."""
    projector: Annotated[Path | None, optional("FOLDER")] = None
    """Start from the projector that `mlx-llava pretrain` trained for this model."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template, instead of the one recorded at conversion."""
    fit: Annotated[Literal["crop", "pad"] | None, optional("{crop,pad}")] = None
    """Crop the middle of a picture, or pad it to a square, instead of what was recorded at conversion."""
    epochs: int = 1
    """Times through the data."""
    batch_size: int = 16
    """Conversations in a batch."""
    accumulation: int = 8
    """Batches in a step."""
    group_by_length: bool = True
    """A batch holds conversations of like length, all with pictures or all without, as far as they reach."""
    learning_rate: float = 2e-5
    """Peak learning rate."""
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
    recompute: Annotated[bool | None, optional("{True,False}")] = None
    """Compute blocks again in the backward pass: a fraction of the memory, a third more time. On a GPU unless False."""
    cache_features: Annotated[Path | None, optional("FOLDER")] = None
    """Keep what the vision tower makes of pictures there, so that later epochs and runs never run it."""


@dataclass(frozen=True)
class Base:
    """The model that is tuned, and what tells it from others."""

    checkpoint: "Checkpoint"
    fingerprint: str


def check(options: TuningOptions) -> None:
    """Raise UsageError for values out of range."""
    for name, (low, high) in RANGES.items():
        value = getattr(options, name, None)  # programs have some of these each
        if value is not None and not low <= value <= high:
            flag = "--" + name.replace("_", "-")
            raise UsageError(f"{flag} {value} is out of range", f"Give a number from {low:g} to {high:g}.")


def load_base(options: TuningOptions) -> Base:
    """The model as the options name it, with the projector they name; what is drawn next is drawn from their seed."""
    import mlx.core as mx

    from mlx_llava.checkpoint import adapters

    checkpoint = _load(options.model)
    base = Base(checkpoint, adapters.fingerprint(checkpoint.folder))
    if options.projector is not None:
        adapters.load_projector(options.projector, checkpoint.model, base.fingerprint)
    mx.random.seed(options.seed)
    return base


def _load(model: str | None) -> "Checkpoint":
    if model is None:
        from mlx_llava.embedded import load_embedded

        return load_embedded()
    from mlx_llava.checkpoint.folder import load
    from mlx_llava.checkpoint.hub import fetch

    return load(fetch(model))


def config_of(options: TuningOptions, config: "LlavaConfig") -> "LlavaConfig":
    """How text and pictures become input while training: as the checkpoint has it, and the options change it."""
    image = replace(config.image, fit=options.fit or config.image.fit)
    return replace(config, template=options.template or config.template, image=image)


def prepare(options: TuningOptions, base: Base, folder: Path, *parts: "Part", projector_lr: float | None) -> "Run":
    """The run that trains these parts, its data checked, its snapshots in `folder`."""
    from mlx_llava.data.batches import Order
    from mlx_llava.models import backend
    from mlx_llava.training.loop import Run
    from mlx_llava.training.optimizer import AdamW, OptimizerOptions
    from mlx_llava.training.plan import largest_step
    from mlx_llava.training.step import train_only

    examples = read_examples(options, base.checkpoint, "train")
    has_validation = (options.data / "valid.jsonl").is_file()
    validation = read_examples(options, base.checkpoint, "valid") if has_validation else None
    model, dataset = base.checkpoint.model, examples.dataset
    train_only(model, *parts)
    recompute = not backend.on_cpu() if options.recompute is None else options.recompute
    rates = OptimizerOptions(options.learning_rate, projector_lr, options.weight_decay, options.max_grad_norm)
    sizes = (options.batch_size, options.accumulation, options.seed)
    return Run(
        model=model,
        optimizer=AdamW(model, rates),
        examples=examples,
        order=Order(dataset.lengths, *sizes, grouped=options.group_by_length),
        num_epochs=options.epochs,
        warmup_ratio=options.warmup_ratio,
        per_batch_mean=options.per_batch_mean,
        save_every=options.save_every,
        num_workers=options.workers,
        folder=folder,
        identity=identity(options, base, dataset),
        recompute=recompute,
        validation=validation,
        step_memory=largest_step(base.checkpoint, examples, options.batch_size, recompute=recompute),
    )


def read_examples(options: TuningOptions, checkpoint: "Checkpoint", split: str) -> "Examples":
    """All examples of a split of the data, known to be whole, and with the folder of features that is named."""
    from mlx_llava.data.dataset import read
    from mlx_llava.data.examples import ExampleBuilder, Examples
    from mlx_llava.prompts.templates import template

    config = config_of(options, checkpoint.config)
    builder = ExampleBuilder(
        template=template(config.template),
        tokenizer=checkpoint.tokenizer,
        image=config.image,
        rows_per_crop=config.rows_per_crop,
        images=options.images,
        max_tokens=min(options.max_tokens, config.text.max_position_embeddings),
        images_first=not options.as_written,
    )
    dataset = read(options.data, options.images, split, skip_bad=options.leave_out)
    examples = Examples(dataset, builder).fitting(leave_out=options.leave_out, num_workers=options.workers)
    left_out = examples.dataset.left_out
    say(
        f"{len(examples)} conversations{' to validate' * (split == 'valid')}"
        + (f"; {len(left_out)} left out: {left_out[0]}, …" if left_out else "")
    )
    if options.cache_features is None:
        return examples
    from mlx_llava.training.tower_features import feature_files

    return replace(examples, features=feature_files(options.cache_features, checkpoint.model, config))


def identity(options: TuningOptions, base: Base, dataset: "Dataset") -> dict[str, Any]:
    """What must be the same for a run to go on: all options but those of FREE, and what files hold."""
    settings = {name: value for name, value in asdict(options).items() if name not in FREE}
    config = config_of(options, base.checkpoint.config)
    return {
        **settings,
        "template": config.template,
        "fit": config.image.fit,
        "data": dataset.fingerprint,
        "choice of records": hashlib.sha256(dataset.table.tobytes()).hexdigest(),
        "model": base.fingerprint,
        "projector": _digest(options.projector),
    }


def _digest(projector: Path | None) -> str | None:
    if projector is None:
        return None
    from mlx_llava.checkpoint.adapters import PROJECTOR

    return hashlib.sha256((projector / PROJECTOR).read_bytes()).hexdigest()


def train(work: "Run") -> bool:
    """Say what is planned and train; whether it came to its end, or else was interrupted and can go on."""
    from mlx_llava.training import charts, loop
    from mlx_llava.training.plan import plan

    say(plan(work))
    finished = loop.train(work, say)
    charts.draw(work.folder / loop.METRICS, work.folder / "loss.png")
    if not finished:
        say("stopped; the same command goes on from here")
    return finished


def say(line: str) -> None:
    """A line for whoever watches."""
    print(printable(line), file=sys.stderr, flush=True)
