"""What goes into the model: one example, and a batch of them.

Knows nothing of text, files or MLX: NumPy arrays only. How many features an image has is decided before, and may
differ from image to image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlx_llava.errors import PromptError

TEXT = -1
"""The slot of a position that shows its own token."""


class ImageCrops(NamedTuple):
    """An image before it has a place in a prompt."""

    crops: NDArray[np.float32]  # [n, H, W, 3]
    num_rows: int
    """Features that the model computes from the crops."""
    key: str = ""
    """Equal for equal images."""


@dataclass(frozen=True)
class ImageSpan:
    """The place of one image in an example."""

    key: str
    start: int
    """First of its positions; there are `num_rows`."""
    first_row: int
    """First of its rows among the example's features."""
    num_rows: int
    num_crops: int = 1

    @property
    def positions(self) -> range:
        """The positions that show the image, one per row."""
        return range(self.start, self.start + self.num_rows)


@dataclass(frozen=True)
class Example:
    """One prompt with its images."""

    tokens: NDArray[np.int32]  # [T]
    slots: NDArray[np.int32]  # [T] TEXT, or the row of this example's image features
    label_mask: NDArray[np.bool_]  # [T] true for the targets of the loss
    crops: NDArray[np.float32]  # [N, H, W, 3] of all images, in order
    images: tuple[ImageSpan, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Examples side by side, padded on the right."""

    tokens: NDArray[np.int32]  # [B, T]
    slots: NDArray[np.int32]  # [B, T] TEXT, or the row of the image features of all crops
    label_mask: NDArray[np.bool_]  # [B, T]
    crops: NDArray[np.float32]  # [N, H, W, 3] of all examples, in order
    lengths: NDArray[np.int32]  # [B]


def no_crops() -> NDArray[np.float32]:
    """The crops of an example without images."""
    return np.zeros((0, 0, 0, 3), np.float32)


def collate(examples: Sequence[Example]) -> Batch:
    """Put examples into one batch, whose slots number the features of all its crops."""
    if not examples:
        raise PromptError("a batch of no examples", "Collate at least one example.")
    lengths = np.array([len(example.tokens) for example in examples], np.int32)
    shape = (len(examples), int(lengths.max()))
    tokens, slots, label_mask = np.zeros(shape, np.int32), np.full(shape, TEXT, np.int32), np.zeros(shape, bool)
    first_row = 0
    for i, example in enumerate(examples):
        here = np.s_[i, : lengths[i]]
        tokens[here] = example.tokens
        slots[here] = np.where(example.slots == TEXT, TEXT, example.slots + first_row)
        label_mask[here] = example.label_mask
        first_row += _num_rows(i, example)
    crops = [example.crops for example in examples if len(example.crops)]
    return Batch(tokens, slots, label_mask, np.concatenate(crops) if crops else no_crops(), lengths)


def _num_rows(index: int, example: Example) -> int:
    """The rows of an example's features; PromptError unless its slots and crops are those of its images."""
    rows, crops = sum(image.num_rows for image in example.images), sum(image.num_crops for image in example.images)
    shown, given = np.count_nonzero(example.slots != TEXT), len(example.crops)
    if (shown, given) != (rows, crops):
        raise PromptError(
            f"example {index} shows {shown} image rows of {given} crops, its images have {rows} of {crops}",
            "Encode the prompt with its images; do not change their slots or crops.",
        )
    return rows
