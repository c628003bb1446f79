"""Which records go in which batch: a pure function of lengths, sizes, seed and epoch.

So a run can resume from a position, which is just two numbers.

Source of the grouping: haotian-liu/LLaVA at c121f04, llava/train/llava_trainer.py, get_modality_length_grouped_indices
in a world of one process.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlx_llava.errors import UsageError

Lengths = NDArray[np.int64] | Sequence[int]
Permute = Callable[[int], list[int]]
Indices = NDArray[np.int64]


class Position(NamedTuple):
    """A batch in the run: its epoch and its number in the epoch, both from 0."""

    epoch: int
    number: int


FIRST = Position(0, 0)


@dataclass(frozen=True, eq=False)
class Order:
    """The order in which records are trained on."""

    lengths: Lengths
    """One per record, negative if it has no image."""
    batch_size: int
    accumulation: int = 1
    """Batches per step."""
    seed: int = 0
    grouped: bool = True
    """Whether to batch records of similar length and the same modality."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.accumulation) < 1 or self.seed < 0:
            raise UsageError("the batch size, accumulation or seed is too small", "Give at least 1, for the seed 0.")

    @property
    def num_batches(self) -> int:
        """Batches per epoch; the last may be smaller."""
        return -(-len(self.lengths) // self.batch_size)

    def batches(self, epoch: int) -> list[list[int]]:
        """The record indices of every batch of an epoch."""
        permute = _permutations(self.seed, epoch)
        if self.grouped:
            indices = group_by_modality(self.lengths, self.batch_size, self.accumulation, permute)
        else:
            indices = permute(len(self.lengths))
        return _cut(indices, self.batch_size)

    def jobs(self, num_epochs: int, start: Position = FIRST) -> Iterator[tuple[Position, list[int]]]:
        """The record indices of every batch from `start` to the end of the run, each with its position."""
        for epoch in range(start.epoch, num_epochs):
            first = start.number if epoch == start.epoch else 0
            for number, indices in enumerate(self.batches(epoch)[first:], first):
                yield Position(epoch, number), indices


def group_by_modality(lengths: Lengths, batch_size: int, accumulation: int, permute: Permute) -> list[int]:
    """Order records so that consecutive batches have one modality and similar lengths.

    The last step of each modality, full or not, is mixed with the other's at the end.
    """
    signed = np.asarray(lengths, np.int64)
    sizes = np.abs(signed)
    steps_of = [
        group_by_length(np.flatnonzero(some), sizes, batch_size, accumulation, permute)
        for some in (signed > 0, signed <= 0)
        if some.any()
    ]
    if len(steps_of) < 2:
        return [*chain(*chain(*steps_of))]
    visual_steps, text_steps = steps_of
    steps = visual_steps[:-1] + text_steps[:-1]
    mixed = sorted(visual_steps[-1] + text_steps[-1])
    return [index for step in permute(len(steps)) for index in steps[step]] + mixed


def group_by_length(
    indices: Indices, sizes: Indices, batch_size: int, accumulation: int, permute: Permute
) -> list[list[int]]:
    """Records in steps of `accumulation` batches, each step a random sample sorted by length."""
    shuffled, size = indices[permute(len(indices))], batch_size * accumulation
    num_full = len(shuffled) // size * size
    samples = [shuffled[:num_full].reshape(-1, size), shuffled[num_full:][None]]
    return [step for sample in samples if sample.size for step in _sort(sample, sizes, accumulation).tolist()]


def _sort(samples: Indices, sizes: Indices, accumulation: int) -> Indices:
    """The records of every sample, a row each, the longest first in each of its batches."""
    by_length = np.argsort(-sizes[samples], axis=1, kind="stable")
    return split_evenly(np.take_along_axis(samples, by_length, axis=1), sizes, accumulation)


def split_evenly(rows: Indices, sizes: Indices, num_chunks: int) -> Indices:
    """Each row in chunks of equal size and similar total length: the shortest gets the next record."""
    num_rows, length = rows.shape
    if length % num_chunks:
        return np.concatenate([rows[:, first::num_chunks] for first in range(num_chunks)], axis=1)
    each, chunks = np.arange(num_rows), np.empty((num_rows, num_chunks, length // num_chunks), np.int64)
    counts, filled = np.zeros((num_rows, num_chunks), np.int64), np.zeros((num_rows, num_chunks))
    for column in rows.T:
        shortest = filled.argmin(axis=1)
        place = counts[each, shortest]
        chunks[each, shortest, place] = column
        counts[each, shortest] = place + 1
        filled[each, shortest] += np.where(place + 1 == length // num_chunks, np.inf, sizes[column])
    return chunks.reshape(num_rows, length)


def _cut(indices: list[int], size: int) -> list[list[int]]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _permutations(seed: int, epoch: int) -> Permute:
    """Permutations from raw bits, which NumPy keeps the same across versions, unlike its shuffles."""
    bits = np.random.PCG64([seed, epoch])
    return lambda count: np.argsort(bits.random_raw(count), kind="stable").tolist()
