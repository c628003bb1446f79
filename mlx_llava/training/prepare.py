"""What pretrain, finetune and lora share: load the base model, check the data, build the run, train."""

import hashlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.data.bad_records import summary
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.examples import Examples
from mlx_llava.data.image_check import with_readable_images
from mlx_llava.models import backend
from mlx_llava.program.run import log
from mlx_llava.resolve import open_model
from mlx_llava.training import charts, loop, snapshots
from mlx_llava.training.examples import read_examples
from mlx_llava.training.loop import Run
from mlx_llava.training.optimizer import AdamW, OptimizerOptions
from mlx_llava.training.options import LoraOptions, TrainingOptions, config_of, fixed_settings
from mlx_llava.training.plan import largest_step, plan
from mlx_llava.training.progress import progress
from mlx_llava.training.sizes import Sizes, sizes_of
from mlx_llava.training.start_adapters import start_digest, start_folder
from mlx_llava.training.step import Part, train_only
from mlx_llava.training.tower_features import open_feature_files

INTERRUPTED = 130  # exit code, as after Ctrl-C


@dataclass(frozen=True)
class Base:
    """The model to train, with the template and image fit of the options, and its fingerprint before training."""

    checkpoint: Checkpoint
    fingerprint: str


def load_base(options: TrainingOptions) -> Base:
    """Load the model, and the projector if one is named; then seed MLX's random numbers."""
    if options.projector is not None:
        adapters.check_folder(options.projector)  # before the model is loaded
    checkpoint = open_model(options.model, training=True)
    checkpoint = replace(checkpoint, config=config_of(options, checkpoint.config))
    base = Base(checkpoint, fingerprint(checkpoint.folder))
    if options.projector is not None:
        adapters.load_projector(options.projector, checkpoint.model, base.fingerprint)
    mx.random.seed(options.seed)
    return base


def prepare(options: TrainingOptions, base: Base, folder: Path, *parts: Part, projector_lr: float | None) -> Run:
    """Check the data and build the run that trains these parts, with its snapshots in `folder`."""
    examples = load_examples(options, base.checkpoint, "train")
    sizes = sizes_of(options, len(examples))
    has_validation = (options.data / "valid.jsonl").is_file()
    model = base.checkpoint.model
    train_only(model, *parts)
    recompute = not backend.on_cpu() if options.recompute is None else options.recompute
    rates = OptimizerOptions(options.learning_rate, projector_lr, options.weight_decay, options.max_grad_norm)
    return Run(
        model=model,
        optimizer=AdamW(model, rates),
        examples=examples,
        options=options,
        sizes=sizes,
        folder=folder,
        identity=identity(options, sizes, base, examples.dataset),
        recompute=recompute,
        validation=load_examples(options, base.checkpoint, "valid") if has_validation else None,
        step_memory=largest_step(base.checkpoint, examples, sizes.batch_size, recompute=recompute),
    )


def load_examples(options: TrainingOptions, checkpoint: Checkpoint, split: str) -> Examples:
    """The examples of a split, all checked and their images opened; backed by the feature cache if there is one."""
    examples = read_examples(options, checkpoint.config, checkpoint.tokenizer, split)
    settings = {"leave_out": options.leave_out, "num_workers": options.workers}
    examples = with_readable_images(examples, **settings, report=progress("opening the images"))
    left_out = examples.dataset.left_out
    if left_out:
        log(f"{len(left_out)} record{'s' * (len(left_out) > 1)} left out: {summary(left_out)}")
    if split == "valid":
        log(f"{len(examples)} validation conversations")
    if options.cache_features is None:
        return examples
    files = open_feature_files(options.cache_features, checkpoint.model, checkpoint.config)
    return replace(examples, feature_files=files)


def identity(options: TrainingOptions, sizes: Sizes, base: Base, dataset: Dataset) -> dict[str, Any]:
    """Everything that must be the same when a run resumes: the fixed settings, and what the named files contain."""
    config = base.checkpoint.config
    return {
        **fixed_settings(options),
        **{name: getattr(sizes, name) for name in ("epochs", "batch_size", "accumulation")},
        "template": config.template,
        "fit": config.image.fit,
        "data": dataset.fingerprint,
        "choice of records": hashlib.sha256(dataset.table.tobytes()).hexdigest(),
        "model": base.fingerprint,
        "projector": options.projector and snapshots.sha256(options.projector / adapters.PROJECTOR),
        "resume_adapter_file": start_digest(start_folder(options)) if isinstance(options, LoraOptions) else None,
    }


def command(name: str, model: str | Path | None, *words: str | Path) -> str:
    """A command line to type next; the bundled model needs no --model."""
    return shlex.join(["mlx-llava", name, *(["--model", str(model)] if model else []), *map(str, words)])


def train(run: Run) -> bool:
    """Log the plan, train, and draw the loss chart; returns whether the run is complete rather than interrupted."""
    for line in plan(run):
        log(line)
    finished = loop.train(run, log)
    charts.draw(run.folder / loop.METRICS, run.folder / "loss.png")
    if not finished:
        log("stopped; run the same command again to resume")
    return finished
