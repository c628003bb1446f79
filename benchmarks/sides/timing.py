"""What the sides share: clocks, and a cache of keys and values as a long prompt leaves it.

Knows nothing of any side but that its caches have `update_and_fetch`.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx

clock = time.process_time if os.environ.get("MLX_LLAVA_BENCH_CLOCK") == "cpu" else time.perf_counter
LENGTH = 640  # positions: 576 of a picture, 64 of text
WIDTH, KV_HEADS, HEAD_DIM = 2048, 4, 64  # of model.py


def fastest(work: Callable[[], object], runs: int) -> float:
    """Seconds of the fastest of several runs."""
    seconds = []
    for _ in range(runs):
        began = clock()
        work()
        seconds.append(clock() - began)
    return min(seconds)


def stamps(steps: Iterable[object], count: int) -> list[float]:
    """When each of the first `count` steps came."""
    return [clock() for _, _ in zip(range(count), steps, strict=False)]


def between(times: Sequence[float]) -> float:
    """Seconds of the fastest step from one to the next: other programs on the machine only slow steps down."""
    return min(later - earlier for earlier, later in pairwise(times))


def fill(layers: list[Any], batch: int = 1) -> list[Any]:
    """Put noise where a prompt's keys and values would stand: how long a step takes does not depend on them."""
    shape = (batch, KV_HEADS, LENGTH, HEAD_DIM)
    for layer in layers:
        mx.eval(layer.update_and_fetch(mx.random.normal(shape), mx.random.normal(shape)))
    return layers
