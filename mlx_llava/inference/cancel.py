"""Cancels a forward pass between two blocks of a model."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import mlx.core as mx

from mlx_llava.models.llama import BlockRunner, DecoderLayer

Cancelled = Callable[[], bool]
"""Whether the caller no longer wants the result."""


class CancelledError(Exception):
    """The caller no longer wants the result."""


def never() -> bool:
    """A request that is never cancelled."""
    return False


def compute_unless(cancelled: Cancelled, x: mx.array) -> None:
    """Compute an array; raise CancelledError if the request was cancelled meanwhile."""
    mx.eval(x)
    if cancelled():
        raise CancelledError


def cancellable(states: Iterable[mx.array], cancelled: Cancelled) -> Iterator[mx.array]:
    """The states of a vision tower; each is computed before the next is requested."""
    for x in states:
        yield x
        compute_unless(cancelled, x)


def runner(cancelled: Cancelled) -> BlockRunner:
    """Runs a decoder's blocks; the input of each is computed first."""

    def run_block(block: DecoderLayer, x: mx.array, mask: mx.array | str | None, cache: Any) -> mx.array:
        compute_unless(cancelled, x)
        return block(x, mask, cache)

    return run_block
