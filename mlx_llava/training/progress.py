"""Progress of what comes before the first step: a line on stderr every few seconds. MLX-free."""

import time
from collections.abc import Callable

from mlx_llava.program.run import log
from mlx_llava.program.text import duration

EVERY = 5  # seconds


def progress(doing: str) -> Callable[[int, int], None]:
    """A function that takes the amounts done and in total, and logs the percentage and the time left now and then."""
    started = last = time.monotonic()

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > EVERY and 0 < done < total:
            last = now
            log(f"{doing}: {done / total:.0%}, {duration((total - done) * (now - started) / done)} left")

    return report
