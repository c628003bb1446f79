"""The schedule at its corners; tests/parity compares every step with transformers."""

import math

import pytest

from mlx_llava.training.schedule import Schedule


def test_it_rises_from_zero_to_one_and_falls_to_zero() -> None:
    factors = [Schedule(100, 0.1)(step) for step in range(101)]
    assert factors[0] == factors[100] == 0.0
    assert factors[5] == 0.5
    assert factors[10] == 1.0 == max(factors)
    assert factors[55] == pytest.approx(0.5)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_the_warm_up_is_rounded_up_to_whole_steps() -> None:
    assert Schedule(5198, 0.03).num_warmup_steps == math.ceil(155.94) == 156


def test_without_a_warm_up_it_starts_at_the_peak() -> None:
    assert Schedule(10, 0.0)(0) == 1.0


def test_a_run_of_one_step_has_a_factor() -> None:
    assert Schedule(1, 0.0)(0) == 1.0
    assert Schedule(1, 0.03)(0) == 0.0
