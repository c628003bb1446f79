"""Runs jobs ahead in worker processes, with results in order."""

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
JOBS_PER_WORKER = 2  # one in progress, one waiting


@contextmanager
def loader(
    make: Callable[[A], R], jobs: Iterable[tuple[K, A]], num_workers: int = 0
) -> Iterator[Iterator[tuple[K, R]]]:
    """Iterate over the results of jobs, in order; a job is a name and the argument for `make`.

    Yields the name with the result, or raises what the job raised in its place. A worker holds one result until it
    is taken. All workers have ended on exit, whatever the reason. With 0 workers, jobs run here on demand.

    Args:
        make: is pickled together with its data, so it must be importable by name.
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
    """Workers take turns, so it is always known which one has the oldest job."""
    waiting: deque[tuple[K, Worker]] = deque()
    for (name, argument), worker in zip(jobs, cycle(workers), strict=False):
        if len(waiting) == JOBS_PER_WORKER * len(workers):
            oldest, its_worker = waiting.popleft()
            yield oldest, its_worker.result()
        worker.send(pickle.dumps(argument))
        waiting.append((name, worker))
    for name, worker in waiting:
        yield name, worker.result()
