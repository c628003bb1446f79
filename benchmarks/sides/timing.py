"""Shared by the sides: clocks, and a KV cache filled like that of a long prompt.

Knows nothing about the sides, except that their caches have `update_and_fetch`.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx

clock = time.process_time if os.environ.get("MLX_LLAVA_BENCH_CLOCK") == "cpu" else time.perf_counter
LENGTH = 640  # positions: 576 of an image, 64 of text
WIDTH, KV_HEADS, HEAD_DIM = 2048, 4, 64  # of model.py


def fastest(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of `runs` calls."""
    seconds = []
    for _ in range(runs):
        start = clock()
        work()
        seconds.append(clock() - start)
    return min(seconds)


def stamps(steps: Iterable[object], count: int) -> list[float]:
    """The time at which each of the first `count` steps arrives."""
    return [clock() for _, _ in zip(range(count), steps, strict=False)]


def between(times: Sequence[float]) -> float:
    """Seconds of the fastest step: other programs can only slow a step down."""
    return min(later - earlier for earlier, later in pairwise(times))


def fill(layers: list[Any], batch: int = 1) -> list[Any]:
    """Fill caches with noise in place of a prompt's keys and values; the time of a step does not depend on them."""
    shape = (batch, KV_HEADS, LENGTH, HEAD_DIM)
    for layer in layers:
        mx.eval(layer.update_and_fetch(mx.random.normal(shape), mx.random.normal(shape)))
    return layers
