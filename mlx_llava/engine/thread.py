"""One thread that owns the model.

Requests go in, events come out. Everything MLX (loading, evaluating, generating, closing, seeds) happens in a
`Worker` on this thread and nowhere else; knows neither MLX nor Textual itself.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from queue import SimpleQueue
from typing import Protocol

from mlx_llava.engine.messages import Ask, Crashed, Event, MapAttention, Request

JOIN = 5.0  # seconds to wait for the thread at the end; what is computed is cut short between blocks, a load is not


class Worker(Protocol):
    """What fulfils requests; made, used and closed on the engine's thread."""

    def handle(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Event]:
        """The events of one request; ends soon after `stopped` turns true."""
        ...

    def close(self) -> None:
        """Give back what the thread holds."""
        ...


class Engine:
    """Runs a worker on a thread of its own.

    `notify` is called on that thread whenever an event waits that nobody was told of.
    """

    def __init__(self, make_worker: Callable[[], Worker], notify: Callable[[], None] = lambda: None) -> None:
        self.notify = notify
        self._make_worker = make_worker
        self._requests: SimpleQueue[Request | None] = SimpleQueue()
        self._events: deque[Event] = deque()
        self._stopped = -1  # answers up to this number are to stop
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)

    def start(self) -> None:
        """Begin to fulfil requests."""
        self._thread.start()

    def send(self, request: Request) -> None:
        """Ask for something; its events come in the order of requests."""
        self._requests.put(request)

    def stop(self, number: int) -> None:
        """Stop the answer or look `number` and all before it, at the next token or block of the model."""
        self._stopped = max(self._stopped, number)

    def receive(self) -> list[Event]:
        """The events since the last call."""
        events = []
        while self._events:
            events.append(self._events.popleft())
        return events

    def end(self, timeout: float = JOIN) -> bool:
        """Stop everything and wait for the thread; whether it has ended."""
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
                    self._fulfil(worker, request)
        except BaseException as error:  # whatever it was, the front must hear of it
            self._emit(Crashed(f"{type(error).__name__}: {error}"))

    def _fulfil(self, worker: Worker, request: Request) -> None:
        number = request.number if isinstance(request, Ask | MapAttention) else None

        def stopped() -> bool:
            return self._ending or (number is not None and number <= self._stopped)

        for event in worker.handle(request, stopped):
            self._emit(event)

    def _emit(self, event: Event) -> None:
        self._events.append(event)
        self.notify()
