"""Examples side by side in a batch."""

from dataclasses import replace

import numpy as np
import pytest

from mlx_llava.errors import PromptError
from mlx_llava.inputs import TEXT, Example, ImageSpan, collate, no_crops

ROWS = 2  # of each image


def example(tokens: list[int], slots: list[int], num_crops: int, shade: float = 0.0) -> Example:
    crops = np.full((num_crops, 4, 4, 3), shade, np.float32) if num_crops else no_crops()
    label_mask = np.arange(len(tokens)) == len(tokens) - 1
    starts = [slots.index(n * ROWS) if n * ROWS in slots else 0 for n in range(num_crops)]
    images = tuple(ImageSpan("", start, n * ROWS, ROWS) for n, start in enumerate(starts))
    return Example(np.array(tokens, np.int32), np.array(slots, np.int32), label_mask, crops, images)


def test_a_batch_is_padded_on_the_right() -> None:
    batch = collate([example([1, 5], [TEXT, TEXT], 0), example([1, 9, 9, 5], [TEXT, 0, 1, TEXT], 1)])
    assert batch.tokens.tolist() == [[1, 5, 0, 0], [1, 9, 9, 5]]
    assert batch.slots.tolist() == [[TEXT] * 4, [TEXT, 0, 1, TEXT]]
    assert batch.label_mask.tolist() == [[False, True, False, False], [False, False, False, True]]
    assert batch.lengths.tolist() == [2, 4]


def test_slots_count_through_the_pictures_of_the_batch() -> None:
    one = example([9, 9, 5], [0, 1, TEXT], 1, shade=0.1)
    none = example([5], [TEXT], 0)
    two = example([9, 9, 5, 9, 9], [0, 1, TEXT, 2, 3], 2, shade=0.2)
    batch = collate([one, none, two, one])
    assert batch.slots.tolist() == [
        [0, 1, TEXT, TEXT, TEXT],
        [TEXT] * 5,
        [2, 3, TEXT, 4, 5],
        [6, 7, TEXT, TEXT, TEXT],
    ]
    np.testing.assert_allclose(batch.crops[:, 0, 0, 0], [0.1, 0.2, 0.2, 0.1], rtol=1e-6)


def test_arrays_keep_the_types_the_model_reads() -> None:
    batch = collate([example([9, 9], [0, 1], 1)])
    assert [a.dtype for a in (batch.tokens, batch.slots, batch.label_mask, batch.crops, batch.lengths)] == [
        np.int32,
        np.int32,
        np.bool_,
        np.float32,
        np.int32,
    ]


def test_text_alone_has_no_crops() -> None:
    batch = collate([example([1, 5], [TEXT, TEXT], 0)] * 2)
    assert batch.crops.shape == (0, 0, 0, 3)


def test_collate_leaves_its_examples_alone() -> None:
    examples = [example([9, 9], [0, 1], 1) for _ in range(2)]
    collate(examples)
    assert [e.slots.tolist() for e in examples] == [[0, 1], [0, 1]]


@pytest.mark.parametrize(("slots", "num_crops"), [([0, TEXT], 1), ([0, 1], 0), ([0, 1], 2), ([TEXT, TEXT], 1)])
def test_rows_that_do_not_fit_the_crops_are_an_error(slots: list[int], num_crops: int) -> None:
    with pytest.raises(
        PromptError,
        match=rf"shows \d image rows of {num_crops} crops, its images have {num_crops * ROWS} of {num_crops}",
    ):
        collate([example([9, 9], slots, num_crops)])


def test_a_batch_has_an_example() -> None:
    with pytest.raises(PromptError, match="no examples"):
        collate([])


def test_images_of_a_batch_may_differ_in_rows_and_crops() -> None:
    crops = np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1) * np.ones((1, 4, 4, 3), np.float32)
    slots = np.array([TEXT, 0, 1, 2, TEXT, 3], np.int32)
    images = (ImageSpan("wide", 1, 0, 3, num_crops=2), ImageSpan("small", 5, 3, 1))
    mixed = Example(slots + 9, slots, slots == TEXT, crops, images)
    batch = collate([mixed, mixed])
    assert batch.slots.tolist() == [[TEXT, 0, 1, 2, TEXT, 3], [TEXT, 4, 5, 6, TEXT, 7]]
    assert batch.crops[:, 0, 0, 0].tolist() == [0, 1, 2, 0, 1, 2]
    assert [list(image.positions) for image in images] == [[1, 2, 3], [5]]
    with pytest.raises(PromptError, match="shows 4 image rows of 2 crops, its images have 4 of 3"):
        collate([replace(mixed, crops=crops[:2])])
