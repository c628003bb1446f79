"""Batches made ahead by worker processes, in order."""

import pickle
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import cycle
from typing import Any, TypeVar

from mlx_llava.data.worker import Worker
from mlx_llava.errors import UsageError

K = TypeVar("K")
A = TypeVar("A")
R = TypeVar("R")
AHEAD = 2  # arguments a worker has: one in hand, one waiting


@contextmanager
def loader(
    make: Callable[[A], R], jobs: Iterable[tuple[K, A]], num_workers: int = 0
) -> Iterator[Iterator[tuple[K, R]]]:
    """Go through jobs, each a name and an argument, to names and what is made of the arguments, in order.

    Each worker holds one result until it is asked for. What a job raises is raised in its place. All workers have
    ended when this is left, for whatever reason. With 0 workers everything is made here, as it is asked for.

    Args:
        make: is pickled, together with what it holds, so it must be importable by name.
    """
    if num_workers < 0:
        raise UsageError(f"{num_workers} data workers", "Give 0 or more.")
    if not num_workers:
        yield ((name, make(argument)) for name, argument in jobs)
        return
    with ExitStack() as stack:
        pickled = pickle.dumps(make)
        workers = [stack.enter_context(closing(Worker())) for _ in range(num_workers)]
        for worker in workers:
            worker.send(pickled)
        yield _in_order(workers, jobs)


def _in_order(workers: Sequence[Worker], jobs: Iterable[tuple[K, A]]) -> Iterator[tuple[K, Any]]:
    """Workers take turns, so the oldest result is always the next of a known one."""
    waiting: deque[tuple[K, Worker]] = deque()
    for (name, argument), worker in zip(jobs, cycle(workers), strict=False):
        if len(waiting) == AHEAD * len(workers):
            oldest, builder = waiting.popleft()
            yield oldest, builder.result()
        worker.send(pickle.dumps(argument))
        waiting.append((name, worker))
    for name, worker in waiting:
        yield name, worker.result()
