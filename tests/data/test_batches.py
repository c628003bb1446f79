"""The order of batches: every record once, like with like, the same from any place on."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.data.batches import Order, Position, split_evenly
from mlx_llava.errors import UsageError

LENGTHS = st.lists(st.integers(-60, 60).filter(bool), min_size=1, max_size=120)
ORDERS = st.builds(
    Order, LENGTHS, st.integers(1, 7), accumulation=st.integers(1, 4), seed=st.integers(0, 9), grouped=st.booleans()
)


@given(ORDERS, st.integers(0, 3))
def test_an_epoch_has_every_record_once_in_full_batches_but_the_last(order: Order, epoch: int) -> None:
    batches = order.batches(epoch)
    assert sorted(chain(*batches)) == list(range(len(order.lengths)))
    assert {len(batch) for batch in batches[:-1]} <= {order.batch_size}
    assert len(batches) == order.num_batches


@given(ORDERS, st.integers(0, 3))
def test_an_order_depends_on_nothing_but_its_numbers(order: Order, epoch: int) -> None:
    same = Order(list(order.lengths), order.batch_size, order.accumulation, order.seed, order.grouped)
    assert order.batches(epoch) == same.batches(epoch)


@given(LENGTHS, st.integers(1, 7), st.integers(1, 4))
def test_batches_have_one_modality_but_for_those_of_two_last_steps(
    lengths: list[int], size: int, accumulation: int
) -> None:
    order = Order(lengths, size, accumulation)
    mixed = [len({lengths[i] > 0 for i in batch}) == 2 for batch in order.batches(0)]
    assert not any(mixed[: -2 * accumulation])
    if len({length > 0 for length in lengths}) == 1:
        assert not any(mixed)


@given(st.lists(st.integers(1, 99), min_size=1, max_size=80), st.integers(1, 5), st.integers(1, 4))
def test_the_records_of_a_step_are_those_a_plain_shuffle_puts_there(
    lengths: list[int], size: int, accumulation: int
) -> None:
    def steps(grouped: bool) -> list[set[int]]:
        indices = [*chain(*Order(lengths, size, accumulation, 5, grouped).batches(1))]
        step = size * accumulation
        return [set(indices[i : i + step]) for i in range(0, len(indices), step)]

    assert steps(True) == steps(False)  # sorting by length happens inside a step


@given(ORDERS, st.integers(0, 30))
def test_a_run_resumes_from_any_position(order: Order, done: int) -> None:
    whole = list(order.jobs(2))
    done = min(done, len(whole) - 1)
    assert list(order.jobs(2, whole[done][0])) == whole[done:]


def test_a_finished_epoch_continues_with_the_next() -> None:
    order = Order([1, 2, 3], batch_size=2)
    assert list(order.jobs(2, Position(0, 2))) == list(order.jobs(2, Position(1, 0)))


def test_epochs_and_seeds_differ() -> None:
    orders = [Order(range(1, 50), 5, seed=seed).batches(epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_an_order_is_the_same_on_every_machine_and_with_every_numpy() -> None:
    order = Order([5, -3, 8, 2, -9, 4, 7, -1], 2, accumulation=2, seed=42)
    assert order.batches(0) == [[2, 5], [6, 0], [1, 3], [4, 7]]  # recorded; the last two are mixed


def split(indices: Sequence[int], sizes: Sequence[int], num_chunks: int) -> list[list[int]]:
    """split_to_even_chunks in LLaVA's llava_trainer.py, for one row: the shortest so far gets the next."""
    if len(indices) % num_chunks:
        return [[*indices[first::num_chunks]] for first in range(num_chunks)]
    chunks: list[list[int]] = [[] for _ in range(num_chunks)]
    for index in indices:
        open_chunks = [chunk for chunk in chunks if len(chunk) < len(indices) // num_chunks]
        min(open_chunks, key=lambda chunk: sum(sizes[i] for i in chunk)).append(index)
    return chunks


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(1, 6))
def test_steps_are_split_as_llava_splits_them(drawn: list[list[int]], num_chunks: int) -> None:
    sizes = [*chain(*drawn)]
    rows = np.arange(len(sizes)).reshape(-1, 6)
    expected = [[*chain(*split(row, sizes, num_chunks))] for row in rows.tolist()]
    assert split_evenly(rows, np.array(sizes), num_chunks).tolist() == expected


@pytest.mark.parametrize("wrong", [(0, 1, 0), (1, 0, 0), (1, 1, -1)])
def test_sizes_that_make_no_batches_are_refused(wrong: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="is too small"):
        Order([1], *wrong)
