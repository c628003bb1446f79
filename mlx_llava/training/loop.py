"""The loop of a run: batches in, steps, snapshots, lines that tell of it.

Knows nothing of what is trained: that was decided when the optimizer was made. A run that was interrupted goes on
from its last snapshot, and ends with the same bits as one that was not.
"""

import json
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import mlx.core as mx

from mlx_llava.data.batches import Order, Position
from mlx_llava.data.examples import Examples
from mlx_llava.data.loader import loader
from mlx_llava.errors import TrainingError
from mlx_llava.inputs import Batch
from mlx_llava.models.llava import Llava
from mlx_llava.training import snapshots
from mlx_llava.training.heap import keep_freed_memory
from mlx_llava.training.meters import Meters
from mlx_llava.training.optimizer import AdamW
from mlx_llava.training.schedule import Schedule
from mlx_llava.training.snapshots import Place, Snapshot
from mlx_llava.training.step import Step, train_step
from mlx_llava.training.tower_features import with_features
from mlx_llava.training.validation import validation_loss

MAX_SKIPPED = 5  # steps in a row whose loss or gradient was not finite
SHOWN = 10  # records that an error names
METRICS, VALIDATION = "metrics.jsonl", "validation.jsonl"


@dataclass(frozen=True)
class Run:
    """Everything a run consists of."""

    model: Llava
    optimizer: AdamW
    examples: Examples
    order: Order
    num_epochs: int
    warmup_ratio: float
    per_batch_mean: bool
    save_every: int
    """Steps between snapshots."""
    num_workers: int
    folder: Path
    identity: Mapping[str, Any]
    """What must be the same for a run to go on: options, data, model."""
    recompute: bool = False
    """Whether the backward pass computes Vicuna's blocks again, to keep less in memory."""
    validation: Examples | None = None
    """What the loss is also told of, at every snapshot."""
    step_memory: int = 0
    """Bytes that a step takes besides weights and the optimizer's state, as estimated."""

    @property
    def num_steps(self) -> int:
        """Steps of the whole run; the last step of an epoch may have fewer batches."""
        return self.num_epochs * -(-self.order.num_batches // self.order.accumulation)


def train(run: Run, say: Callable[[str], None]) -> bool:
    """Train to the end, or until Ctrl-C or SIGTERM, which end the step and leave a snapshot; whether it is the end."""
    keep_freed_memory()
    run.model.language_model.recompute = run.recompute
    place = resume(run, say)
    meters = Meters(run.folder / METRICS, run.num_steps, place.step)
    schedule = Schedule(run.num_steps, run.warmup_ratio)
    rates = {name: run.optimizer.learning_rate(f"{name}.") for name in ("language_model", "projector")}
    jobs = run.order.jobs(run.num_epochs, Position(place.epoch, place.number))
    with loader(run.examples.batch, jobs, run.num_workers) as made, stop_requests() as stop_is_asked:
        for last, batches in steps(made, run.order):
            factor = schedule(place.step)
            step = take(run, place, batches, factor)
            records = records_of(run, place, last) if step.skipped else []
            place = following(place, last, run.order)
            positions = sum(batch.tokens.size for batch in batches)
            say(meters.note(place.step, step, {n: factor * r for n, r in rates.items()}, positions, records))
            check_skipped(meters, records)
            stopping = stop_is_asked()
            if stopping or place.step % run.save_every == 0 or place.step == run.num_steps:
                snapshots.save(run.folder, Snapshot(place, run.optimizer.state()), run.identity)
                if not stopping:
                    validate(run, place.step, say)
            if stopping and place.step < run.num_steps:
                return False
    return True


def validate(run: Run, step: int, say: Callable[[str], None]) -> None:
    """Tell of the loss on examples that are not trained on, if there are any."""
    if run.validation is not None:
        loss = validation_loss(run.model, run.validation, run.order.batch_size)
        with (run.folder / VALIDATION).open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss}) + "\n")
        say(f"validation loss {loss:.4f} after step {step}")


def take(run: Run, place: Place, batches: list[Batch], factor: float) -> Step:
    """One step; its chance, for dropout, is its own, however it was reached."""
    if (files := run.examples.features) is not None:
        batches = [with_features(run.model, files, batch) for batch in batches]
    mx.random.seed(run.order.seed * 1_000_003 + place.step)
    return train_step(run.model, run.optimizer, batches, factor, per_batch_mean=run.per_batch_mean)


def records_of(run: Run, place: Place, last: Position) -> list[int]:
    """The numbers, in their file, of the records from a place to the batch at `last`."""
    batches = run.order.batches(place.epoch)[place.number : last.number + 1]
    return [run.examples.dataset.number(index) for batch in batches for index in batch]


def check_skipped(meters: Meters, records: list[int]) -> None:
    """Raise TrainingError where too many steps in a row were skipped; `records` were in the last one."""
    if meters.skipped_in_a_row == MAX_SKIPPED:
        told = ", ".join(map(str, records[:SHOWN])) + (" and others" if len(records) > SHOWN else "")
        raise TrainingError(
            f"{MAX_SKIPPED} steps in a row had a loss or gradient that is not finite; in the last: records {told}",
            f"Lower the learning rate, or look at the records that {METRICS} names: mlx-llava look.",
        )


def resume(run: Run, say: Callable[[str], None]) -> Place:
    """Go on from the newest whole snapshot; the place to start from."""
    snapshots.sweep(run.folder)
    snapshot = snapshots.latest(run.folder, run.identity)
    if snapshot is None:
        return Place(0, 0, 0)
    run.optimizer.restore(run.model, snapshot.state)
    say(f"going on after step {snapshot.place.step}")
    return snapshot.place


def steps(made: Iterator[tuple[Position, Batch]], order: Order) -> Iterator[tuple[Position, list[Batch]]]:
    """The batches of each step, with the position of its last one; no step reaches into the next epoch."""
    batches: list[Batch] = []
    for position, batch in made:
        batches.append(batch)
        if len(batches) == order.accumulation or position.number == order.num_batches - 1:
            yield position, batches
            batches = []


def following(place: Place, last: Position, order: Order) -> Place:
    """The place after a step whose last batch stood at `last`."""
    ends = last.number == order.num_batches - 1
    return Place(place.step + 1, last.epoch + ends, 0 if ends else last.number + 1)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM has asked to stop; a second one stops at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
