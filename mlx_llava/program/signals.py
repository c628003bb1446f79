"""Ctrl-C: it ends a starting program at once, and raises KeyboardInterrupt when there is something to keep or clean up.

A library that is being imported may swallow a KeyboardInterrupt, so that the program goes on, or print a traceback.
"""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePath
from types import FrameType

COMMAND = "mlx-llava"

_received: list[int] = []


def is_program() -> bool:
    """Whether this process was started as `mlx-llava` or `python -m mlx_llava…`, while the package is imported."""
    name = PurePath(sys.argv[0]).name if sys.argv else ""
    return name == COMMAND or (name == "-m" and any(word.startswith("mlx_llava") for word in sys.orig_argv))


def end_at_once() -> None:
    """Let Ctrl-C end the process, unless the process ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt inside the `with`; has no effect outside the main thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt again if an import or a library's callback swallowed it."""
    if _received:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    _received.append(number)
    raise KeyboardInterrupt
