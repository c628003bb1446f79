"""What goes into the model: one example, and a batch of them.

Knows nothing of text, pictures or MLX: numpy arrays only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlx_llava.errors import PromptError

TEXT = -1
"""The slot of a token that shows its own embedding."""


@dataclass(frozen=True)
class Example:
    """One prompt with its pictures."""

    tokens: NDArray[np.int32]  # [T]
    slots: NDArray[np.int32]  # [T] TEXT, or the row of this example's image features at the token
    label_mask: NDArray[np.bool_]  # [T] true where loss is taken on that token as a target
    crops: NDArray[np.float32]  # [N, H, W, 3]


@dataclass(frozen=True)
class Batch:
    """Examples side by side, padded on the right."""

    tokens: NDArray[np.int32]  # [B, T]
    slots: NDArray[np.int32]  # [B, T] TEXT, or the row of the image features of all crops
    label_mask: NDArray[np.bool_]  # [B, T]
    crops: NDArray[np.float32]  # [N, H, W, 3] of all examples, in order
    lengths: NDArray[np.int32]  # [B]


def no_crops() -> NDArray[np.float32]:
    """The crops of an example without pictures."""
    return np.zeros((0, 0, 0, 3), np.float32)


def collate(examples: Sequence[Example], rows_per_crop: int) -> Batch:
    """Put examples into one batch, whose slots count through the features of all its crops."""
    if not examples:
        raise PromptError("a batch of no examples", "Collate at least one example.")
    lengths = np.array([len(example.tokens) for example in examples], np.int32)
    shape = (len(examples), int(lengths.max()))
    tokens, slots, label_mask = np.zeros(shape, np.int32), np.full(shape, TEXT, np.int32), np.zeros(shape, bool)
    first_row = 0
    for i, example in enumerate(examples):
        _check_rows(i, example, rows_per_crop)
        here = np.s_[i, : lengths[i]]
        tokens[here] = example.tokens
        slots[here] = np.where(example.slots == TEXT, TEXT, example.slots + first_row)
        label_mask[here] = example.label_mask
        first_row += len(example.crops) * rows_per_crop
    crops = [example.crops for example in examples if len(example.crops)]
    return Batch(tokens, slots, label_mask, np.concatenate(crops) if crops else no_crops(), lengths)


def _check_rows(index: int, example: Example, rows_per_crop: int) -> None:
    shown = np.count_nonzero(example.slots != TEXT)
    rows = len(example.crops) * rows_per_crop
    if shown != rows:
        raise PromptError(
            f"example {index} shows {shown} image rows, its {len(example.crops)} crops have {rows}",
            "Encode the prompt with the pictures and the rows per crop of this model.",
        )
