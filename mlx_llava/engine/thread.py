"""The thread that owns the model.

Requests go in, events come out. All MLX work (loading, evaluating, generating, seeding, closing) happens in a `Worker`
on this thread. This module imports neither MLX nor Textual.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Protocol

from mlx_llava.engine.messages import Ask, Crashed, Event, MapAttention, Request
from mlx_llava.program.run import explain

JOIN = 5.0  # seconds to wait for the thread at exit; generation stops between blocks, loading does not stop


class Worker(Protocol):
    """Carries out requests. Created, used and closed on the engine's thread."""

    def handle(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Event]:
        """Yield the events of a request; end soon after `cancelled()` turns true."""
        ...

    def close(self) -> None:
        """Release what the thread holds."""


class Engine:
    """Runs a worker on its own thread.

    `notify` is called on that thread after each new event.
    """

    def __init__(self, make_worker: Callable[[], Worker], notify: Callable[[], None] = lambda: None) -> None:
        self.notify = notify
        self._make_worker = make_worker
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._events: deque[Event] = deque()
        self._stopped = -1  # requests up to this number are cancelled
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def send(self, request: Request) -> None:
        """Queue a request; requests are carried out in order."""
        self._requests.put(request)

    def stop(self, number: int) -> None:
        """Cancel request `number` and all earlier ones, at the next token or decoder block."""
        self._stopped = max(self._stopped, number)

    def receive(self) -> list[Event]:
        """Return the events since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def end(self, timeout: float = JOIN) -> bool:
        """Cancel everything and wait for the thread; returns whether it has ended."""
        self._ending = True
        self._requests.put(None)
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            worker = self._make_worker()
            with closing(worker):
                while (request := self._requests.get()) is not None and not self._ending:
                    self._handle(worker, request)
        except BaseException as error:  # any error must reach the front end
            explained = explain(error) if isinstance(error, Exception) else None
            text = f"{explained.problem}. {explained.advice}" if explained else f"{type(error).__name__}: {error}"
            self._emit(Crashed(text))

    def _handle(self, worker: Worker, request: Request) -> None:
        number = request.number if isinstance(request, Ask | MapAttention) else None

        def cancelled() -> bool:
            return self._ending or (number is not None and number <= self._stopped)

        for event in worker.handle(request, cancelled):
            self._emit(event)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self.notify()
