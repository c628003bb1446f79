"""Saves a run while it trains: its snapshots, also after an error, and the requests to stop it."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from mlx_llava.errors import TrainingError
from mlx_llava.program.signals import raise_if_interrupted
from mlx_llava.training import snapshots
from mlx_llava.training.optimizer import AdamW
from mlx_llava.training.snapshots import Progress, Snapshot

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, a closed terminal


class Saver:
    """The progress of a run, and its snapshots."""

    def __init__(self, folder: Path, identity: Mapping[str, Any], optimizer: AdamW, progress: Progress) -> None:
        self.folder = folder
        self.identity = identity
        self.optimizer = optimizer
        self.saved = self._attempted = progress.step
        self.advance(progress)

    def advance(self, progress: Progress) -> None:
        """Note that a step is complete."""
        self.progress = progress
        self._num_updates = self.optimizer.num_updates

    def save(self) -> None:
        """Write a snapshot of the last complete step."""
        self._attempted = self.progress.step
        snapshots.save(self.folder, Snapshot(self.progress, self.optimizer.state()), self.identity)
        self.saved = self.progress.step

    @contextmanager
    def save_on_error(self, log: Callable[[str], None]) -> Iterator[None]:
        """If an error ends the block, save the steps so far and log how to resume; the error goes on."""
        try:
            yield
        except Exception:
            intact = self.optimizer.num_updates == self._num_updates  # or the error came in the middle of an update
            if intact and self.progress.step > self._attempted:
                self._try_to_save(log)
            if self.saved:
                log(f"saved after step {self.saved}; once the error is fixed, run the same command again to resume")
            raise

    def _try_to_save(self, log: Callable[[str], None]) -> None:
        try:
            self.save()
        except TrainingError as error:
            log(error.problem)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether a stop signal has been received; a second one stops at once."""
    raise_if_interrupted()
    signals: list[int] = []

    def receive(number: int, frame: FrameType | None) -> None:
        if signals:
            raise KeyboardInterrupt
        signals.append(number)

    wanted = [number for number in STOP_SIGNALS if number == signal.SIGINT or not _is_ignored(number)]
    handlers = {number: signal.signal(number, receive) for number in wanted}
    try:
        yield lambda: bool(signals)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _is_ignored(number: int) -> bool:
    """Whether the program was told to ignore a signal, as `nohup` does for SIGHUP."""
    return signal.getsignal(number) == signal.SIG_IGN
