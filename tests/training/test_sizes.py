"""How long a run is: given sizes stay, the others follow from the data."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.training.options import FinetuneOptions, LoraOptions, PretrainOptions, TrainingOptions
from mlx_llava.training.sizes import ENOUGH_STEPS, SMALLEST_BATCH, sizes_of

OUT = Path("out")
SIZE = st.none() | st.integers(1, 64)


def lora(**sizes: int | None) -> LoraOptions:
    return LoraOptions(data=OUT, adapter_path=OUT, **sizes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("num_examples", "options", "text"),
    [
        (1, lora(), "1 conversation: batch 4, 50 epochs, 50 steps"),
        (24, lora(), "24 conversations: batch 4, 9 epochs, 54 steps"),
        (40, lora(), "40 conversations: batch 4, 5 epochs, 50 steps"),
        (100, lora(), "100 conversations: batch 4, 2 epochs, 50 steps"),
        (1000, lora(), "1000 conversations: batch 16, 1 epoch, 63 steps"),
        (5000, lora(), "5000 conversations: batch 16 x 4, 1 epoch, 79 steps"),
        (665_000, lora(), "665000 conversations: batch 16 x 8, 1 epoch, 5196 steps"),
        (
            558_000,
            PretrainOptions(data=OUT, adapter_path=OUT),
            "558000 conversations: batch 32 x 8, 1 epoch, 2180 steps",
        ),
        (24, PretrainOptions(data=OUT, adapter_path=OUT), "24 conversations: batch 4, 9 epochs, 54 steps"),
        (24, FinetuneOptions(data=OUT, mlx_path=OUT), "24 conversations: batch 4, 9 epochs, 54 steps"),
        (24, lora(epochs=1), "24 conversations: batch 4, 1 epoch, 6 steps"),
        (24, lora(batch_size=16), "24 conversations: batch 16, 25 epochs, 50 steps"),
        (24, lora(batch_size=16, accumulation=8, epochs=1), "24 conversations: batch 16 x 8, 1 epoch, 1 step"),
        (24, lora(steps=200), "24 conversations: batch 4, 34 epochs, 200 steps"),
        (665_000, lora(steps=20), "665000 conversations: batch 16 x 8, 1 epoch, 20 steps"),
        (665_000, lora(steps=6000), "665000 conversations: batch 16 x 8, 2 epochs, 6000 steps"),
        (24, lora(steps=200, epochs=2), "24 conversations: batch 4, 2 epochs, 12 steps"),
    ],
)
def test_the_sizes_of_a_run(num_examples: int, options: TrainingOptions, text: str) -> None:
    assert str(sizes_of(options, num_examples)) == text


@given(st.integers(1, 10**6), SIZE, SIZE, SIZE, st.none() | st.integers(1, 10**5))
def test_what_is_given_stays_and_what_is_not_makes_enough_steps(
    num_examples: int, batch_size: int | None, accumulation: int | None, epochs: int | None, steps: int | None
) -> None:
    sizes = sizes_of(lora(batch_size=batch_size, accumulation=accumulation, epochs=epochs, steps=steps), num_examples)
    for chosen, wanted in ((sizes.batch_size, batch_size), (sizes.accumulation, accumulation), (sizes.epochs, epochs)):
        assert wanted in (None, chosen)
    if steps is not None:
        assert sizes.num_steps == steps or (epochs is not None and sizes.num_steps < steps)
    elif epochs is None:
        assert sizes.num_steps >= ENOUGH_STEPS
    assert batch_size is not None or sizes.batch_size >= SMALLEST_BATCH
