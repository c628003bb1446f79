"""Cancels a forward pass between two blocks of the model."""

from collections.abc import Callable

import mlx.core as mx

Cancelled = Callable[[], bool]
"""Whether the caller no longer wants the result."""


class CancelledError(Exception):
    """The caller no longer wants the result."""


def never() -> bool:
    """A request that is never cancelled."""
    return False


def compute_unless(cancelled: Cancelled) -> Callable[[mx.array], None]:
    """A function that computes an array, and raises CancelledError if the request was cancelled meanwhile."""

    def compute(x: mx.array) -> None:
        mx.eval(x)
        if cancelled():
            raise CancelledError

    return compute
