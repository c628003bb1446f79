"""Shared by the sides: clocks, medians, and the shape of the benchmark's text model. Imports neither MLX nor torch."""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from statistics import median

clock = time.process_time if os.environ.get("MLX_LLAVA_BENCH_CLOCK") == "cpu" else time.perf_counter
LENGTH, FEW = 640, 16  # positions of a prompt: 576 of an image, 64 of text; those that warm up
WIDTH, KV_HEADS, HEAD_DIM = 2048, 4, 64  # of model.py


def typical(work: Callable[[], object], runs: int) -> float:
    """Seconds of the median of `runs` calls; the first of several is a warm-up."""
    seconds = []
    for _ in range(runs):
        start = clock()
        work()
        seconds.append(clock() - start)
    return median(seconds[1:] or seconds)


def prefilled(work: Callable[[int], object], rows: int) -> float:
    """Seconds to prefill `rows` positions, after a few that touch every weight."""
    if rows > FEW:
        work(FEW)
    return typical(lambda: work(rows), 1)


def stamps(steps: Iterable[object], count: int) -> list[float]:
    """The time at which each of the first `count` steps arrives."""
    return [clock() for _, _ in zip(range(count), steps, strict=False)]


def between(times: Sequence[float]) -> float:
    """Seconds of the median step."""
    return median(later - earlier for earlier, later in pairwise(times))
