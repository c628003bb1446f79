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
    signed = np.asarray(lengths).tolist()
    sizes = [abs(length) for length in signed]
    visual = [i for i, length in enumerate(signed) if length > 0]
    text = [i for i, length in enumerate(signed) if length <= 0]
    if not visual or not text:
        return [*chain(*group_by_length(visual or text, sizes, batch_size, accumulation, permute))]
    visual_steps = group_by_length(visual, sizes, batch_size, accumulation, permute)
    text_steps = group_by_length(text, sizes, batch_size, accumulation, permute)
    steps = visual_steps[:-1] + text_steps[:-1]
    mixed = sorted(visual_steps[-1] + text_steps[-1])
    return [index for step in permute(len(steps)) for index in steps[step]] + mixed


def group_by_length(
    indices: Sequence[int], sizes: Sequence[int], batch_size: int, accumulation: int, permute: Permute
) -> list[list[int]]:
    """Records in steps of `accumulation` batches, each step a random sample sorted by length."""
    samples = _cut([indices[i] for i in permute(len(indices))], batch_size * accumulation)
    return [[*chain(*split_evenly(sorted(step, key=lambda i: -sizes[i]), sizes, accumulation))] for step in samples]


def split_evenly(indices: Sequence[int], sizes: Sequence[int], num_chunks: int) -> list[list[int]]:
    """Chunks of equal size and similar total length: the shortest gets the next record."""
    if len(indices) % num_chunks:
        return [list(indices[i::num_chunks]) for i in range(num_chunks)]
    chunks: list[list[int]] = [[] for _ in range(num_chunks)]
    filled: list[float] = [0.0] * num_chunks
    for index in indices:
        shortest = filled.index(min(filled))
        chunks[shortest].append(index)
        full = len(chunks[shortest]) == len(indices) // num_chunks
        filled[shortest] = float("inf") if full else filled[shortest] + sizes[index]
    return chunks


def _cut(indices: list[int], size: int) -> list[list[int]]:
    return [indices[i : i + size] for i in range(0, len(indices), size)]


def _permutations(seed: int, epoch: int) -> Permute:
    """Permutations from raw bits, which NumPy keeps the same across versions, unlike its shuffles."""
    bits = np.random.PCG64([seed, epoch])
    return lambda count: np.argsort(bits.random_raw(count), kind="stable").tolist()
