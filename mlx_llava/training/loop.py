"""The training loop: batches, steps, snapshots, validation and the log.

Does not know which parts are trained: the optimizer decided that. An interrupted run resumes from its last snapshot
and ends with the same bits as one that ran through.
"""

import ctypes
import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import FrameType
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
from mlx_llava.program.signals import raise_if_interrupted
from mlx_llava.training import snapshots
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.meters import Meters
from mlx_llava.training.optimizer import AdamW
from mlx_llava.training.options import TrainingOptions
from mlx_llava.training.recompute import recompute_block
from mlx_llava.training.schedule import Schedule
from mlx_llava.training.snapshots import Progress, Snapshot
from mlx_llava.training.step import Step, train_step
from mlx_llava.training.tower_features import add_features

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
    folder: Path
    """Where snapshots and metrics go."""
    identity: Mapping[str, Any]
    """Everything that must be the same when the run resumes: options, data, model."""
    recompute: bool = False
    """Whether the backward pass recomputes the decoder's blocks to save memory."""
    validation: Examples | None = None
    """Examples for the validation loss, computed at every snapshot."""
    step_memory: int = 0
    """Estimated bytes of a step, without weights and optimizer state."""

    @cached_property
    def order(self) -> Order:
        """The order in which the examples are trained on."""
        sizes = (self.options.batch_size, self.options.accumulation, self.options.seed)
        return Order(self.examples.dataset.lengths, *sizes, grouped=self.options.group_by_length)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run; the last step of an epoch may have fewer batches."""
        return self.options.epochs * -(-self.order.num_batches // self.order.accumulation)

    @property
    def schedule(self) -> Schedule:
        """The factor on the learning rates at each step."""
        return Schedule(self.num_steps, self.options.warmup_ratio)


def train(run: Run, log: Log) -> bool:
    """Train to the end, or until Ctrl-C or SIGTERM, which finish the step and save; returns whether it is the end."""
    keep_freed_memory()
    progress = resume(run, log)
    meters = Meters(run.folder / METRICS, run.num_steps, progress.step)
    rates = {name: run.optimizer.learning_rate(f"{name}.") for name in ("language_model", "projector")}
    jobs = run.order.jobs(run.options.epochs, Position(progress.epoch, progress.number))
    with loader(run.examples.batch, jobs, run.options.workers) as batches, stop_requests() as stop_requested:
        for last, step_batches in group_into_steps(batches, run.order):
            factor = run.schedule(progress.step)
            step = run_step(run, progress, step_batches, factor)
            records = record_numbers(run, progress, last) if step.skipped else []
            progress = progress_after(progress, last, run.order)
            positions = sum(batch.tokens.size for batch in step_batches)
            log(meters.record(progress.step, step, {n: factor * r for n, r in rates.items()}, positions, records))
            check_skipped(meters, records)
            stopping = stop_requested()
            if stopping or progress.step % run.options.save_every == 0 or progress.step == run.num_steps:
                snapshots.save(run.folder, Snapshot(progress, run.optimizer.state()), run.identity)
                if not stopping:
                    validate(run, progress.step, log)
            if stopping and progress.step < run.num_steps:
                return False
    return True


def resume(run: Run, log: Log) -> Progress:
    """Restore the newest intact snapshot, if there is one; returns where to continue."""
    snapshots.sweep(run.folder)
    snapshot = snapshots.latest(run.folder, run.identity)
    if snapshot is None:
        return Progress(0, 0, 0)
    run.optimizer.restore(run.model, snapshot.state)
    log(f"resuming after step {snapshot.progress.step}")
    return snapshot.progress


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


def validate(run: Run, step: int, log: Log) -> None:
    """Log the validation loss, if the run has validation examples."""
    if run.validation is not None:
        loss = validation_loss(run.model, run.validation, run.order.batch_size)
        with (run.folder / VALIDATION).open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss}) + "\n")
        log(f"validation loss {loss:.4f} after step {step}")


def validation_loss(model: Llava, examples: Examples, batch_size: int) -> float:
    """The mean loss per answer token over all examples, without dropout; leaves the model in training mode."""
    total, num_tokens = 0.0, 0
    model.eval()
    try:
        indices = range(len(examples))
        for start in indices[::batch_size]:
            batch = examples.batch(indices[start : start + batch_size])
            batch = add_features(model, examples.feature_files, batch)
            loss, count = answer_loss(model, batch)
            total, num_tokens = total + float(loss), num_tokens + count
    finally:
        model.train()
    return total / num_tokens


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether Ctrl-C or SIGTERM has been received; a second one stops at once."""
    raise_if_interrupted()
    signals: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    handlers = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def keep_freed_memory() -> bool:
    """On the CPU with glibc, let the process keep freed memory for its next arrays; returns whether it does.

    MLX caches no buffers there, and the C library returns large ones to the system, so every large array would begin
    with page faults: a tenth of a step.
    """
    allocator = getattr(ctypes.CDLL(None), "mallopt", None)
    if allocator is None or not backend.on_cpu():
        return False
    return bool(allocator(M_MMAP_MAX, 0) and allocator(M_TRIM_THRESHOLD, 2**31 - 1))
