"""The training loop: batches, steps, snapshots, validation and the log.

Does not know which parts are trained: the optimizer decided that. An interrupted run resumes from its last snapshot
and ends with the same bits as one that ran through.
"""

import ctypes
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.data.batches import Order, Position
from mlx_llava.data.examples import Examples
from mlx_llava.data.loader import loader
from mlx_llava.errors import TrainingError
from mlx_llava.inputs import Batch
from mlx_llava.models import backend
from mlx_llava.models.llama import forward
from mlx_llava.models.llava import Llava
from mlx_llava.training import snapshots
from mlx_llava.training.meters import Meters, cut_after
from mlx_llava.training.optimizer import AdamW
from mlx_llava.training.options import TrainingOptions
from mlx_llava.training.recompute import recompute_block
from mlx_llava.training.saver import Saver, stop_requests
from mlx_llava.training.schedule import Schedule
from mlx_llava.training.sizes import Sizes
from mlx_llava.training.snapshots import Progress
from mlx_llava.training.step import Step, train_step
from mlx_llava.training.tower_features import add_features
from mlx_llava.training.validation import validation_loss

MAX_SKIPPED = 5  # steps in a row whose loss or gradient is not finite
MAX_LISTED = 10  # records that an error names
METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc, malloc.h

Log = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """Everything that a run consists of."""

    model: Llava
    optimizer: AdamW
    examples: Examples
    options: TrainingOptions
    sizes: Sizes
    folder: Path
    """Where snapshots and metrics go."""
    identity: Mapping[str, Any]
    """Everything that must be the same when the run resumes: options, data, model."""
    recompute: bool = False
    """Whether the backward pass recomputes the decoder's blocks to save memory."""
    validation: Examples | None = None
    """Examples for the validation loss."""
    step_memory: int = 0
    """Estimated bytes of a step, without weights and optimizer state."""

    @cached_property
    def order(self) -> Order:
        """The order in which the examples are trained on."""
        sizes = (self.sizes.batch_size, self.sizes.accumulation, self.options.seed)
        return Order(self.examples.dataset.lengths, *sizes, grouped=self.options.group_by_length)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        return self.sizes.num_steps

    @property
    def schedule(self) -> Schedule:
        """The factor on the learning rates at each step."""
        return Schedule(self.num_steps, self.options.warmup_ratio)

    def is_due(self, step: int, every: int) -> bool:
        """Whether something that is done after every `every` steps, and after the last, is done after this one."""
        return step % every == 0 or step == self.num_steps


def train(run: Run, log: Log) -> bool:
    """Train to the end, or until Ctrl-C or a signal, which finish the step and save; returns whether it is the end.

    An error saves the complete steps before it is raised.
    """
    keep_freed_memory()
    first = resume(run, log)
    saver = Saver(run.folder, run.identity, run.optimizer, first)
    jobs = run.order.jobs(run.sizes.epochs, Position(first.epoch, first.number))
    with (
        saver.save_on_error(log),
        loader(run.examples.batch, jobs, run.options.workers) as batches,
        stop_requests() as stop_requested,
    ):
        meters = Meters(run.folder / METRICS, run.num_steps)
        for last, step_batches in islice(group_into_steps(batches, run.order), run.num_steps - first.step):
            line = train_and_record(run, saver, meters, last, step_batches)
            if run.is_due(saver.progress.step, run.options.steps_per_report):
                log(line)
            stopping = stop_requested()
            after_step(run, saver, log, stopping=stopping)
            if stopping and saver.progress.step < run.num_steps:
                return False
    return True


def train_and_record(run: Run, saver: Saver, meters: Meters, last: Position, batches: list[Batch]) -> str:
    """One step, whose last batch is at position `last`; returns its log line."""
    before = saver.progress
    factor = run.schedule(before.step)
    step = run_step(run, before, batches, factor)
    records = record_numbers(run, before, last) if step.skipped else []
    saver.advance(progress_after(before, last, run.order))
    rates = {name: factor * run.optimizer.learning_rate(f"{name}.") for name in ("language_model", "projector")}
    line = meters.record(saver.progress.step, step, rates, sum(batch.tokens.size for batch in batches), records)
    check_skipped(meters, records)
    return line


def after_step(run: Run, saver: Saver, log: Log, *, stopping: bool) -> None:
    """Save and validate if it is time; a run that stops is saved and not validated."""
    step, options = saver.progress.step, run.options
    if stopping or run.is_due(step, options.save_every):
        saver.save()
    if run.validation and not stopping and run.is_due(step, options.steps_per_eval or options.save_every):
        validate(run, run.validation, step, log)


def resume(run: Run, log: Log) -> Progress:
    """Restore the newest intact snapshot, if there is one; returns where to continue."""
    snapshots.sweep(run.folder)
    snapshot = snapshots.latest(run.folder, run.identity)
    progress = Progress(0, 0, 0) if snapshot is None else snapshot.progress
    for file in (METRICS, VALIDATION):
        cut_after(run.folder / file, progress.step)
    if snapshot is not None:
        run.optimizer.restore(run.model, snapshot.state)
        log(f"resuming after step {progress.step}")
    return progress


def group_into_steps(batches: Iterator[tuple[Position, Batch]], order: Order) -> Iterator[tuple[Position, list[Batch]]]:
    """The batches of each step, with the position of the last one; no step crosses the end of an epoch."""
    group: list[Batch] = []
    for position, batch in batches:
        group.append(batch)
        if len(group) == order.accumulation or position.number == order.num_batches - 1:
            yield position, group
            group = []


def run_step(run: Run, progress: Progress, batches: list[Batch], factor: float) -> Step:
    """One step. Random numbers (dropout) are seeded per step, so a resumed run draws the same ones."""
    batches = [add_features(run.model, run.examples.feature_files, batch) for batch in batches]
    mx.random.seed(run.order.seed * 1_000_003 + progress.step)
    run_block = recompute_block if run.recompute else forward
    per_batch_mean = run.options.per_batch_mean
    return train_step(run.model, run.optimizer, batches, factor, per_batch_mean=per_batch_mean, run_block=run_block)


def progress_after(progress: Progress, last: Position, order: Order) -> Progress:
    """The progress after a step whose last batch is at position `last`."""
    epoch_ends = last.number == order.num_batches - 1
    return Progress(progress.step + 1, last.epoch + epoch_ends, 0 if epoch_ends else last.number + 1)


def record_numbers(run: Run, progress: Progress, last: Position) -> list[int]:
    """The numbers, in their file, of the records in a step that begins at `progress` and ends with batch `last`."""
    batches = run.order.batches(progress.epoch)[progress.number : last.number + 1]
    return [run.examples.dataset.number(index) for batch in batches for index in batch]


def check_skipped(meters: Meters, records: list[int]) -> None:
    """Raise TrainingError after too many skipped steps in a row; `records` are those of the last one."""
    if meters.skipped_in_a_row == MAX_SKIPPED:
        numbers = ", ".join(map(str, records[:MAX_LISTED])) + (" and others" if len(records) > MAX_LISTED else "")
        raise TrainingError(
            f"{MAX_SKIPPED} steps in a row had a loss or gradient that is not finite; the last one: records {numbers}",
            f"Lower the learning rate, or inspect the records listed in {METRICS} with mlx-llava look.",
        )


def validate(run: Run, examples: Examples, step: int, log: Log) -> None:
    """Compute and log the validation loss after a step."""
    loss = validation_loss(run.model, examples, run.sizes.batch_size, run.options.val_batches)
    with (run.folder / VALIDATION).open("a") as file:
        file.write(json.dumps({"step": step, "loss": loss}) + "\n")
    log(f"validation loss {loss:.4f} after step {step}")


def keep_freed_memory() -> bool:
    """On the CPU with glibc, let the process keep freed memory for its next arrays; returns whether it does.

    MLX caches no buffers there, and the C library returns large ones to the system, so every large array would begin
    with page faults: a tenth of a step.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is None or not backend.on_cpu():
        return False
    return bool(allocator(M_MMAP_MAX, 0) and allocator(M_TRIM_THRESHOLD, 2**31 - 1))
