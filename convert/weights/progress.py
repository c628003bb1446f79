"""Progress of a conversion on stderr: share, rate and time left."""

import sys
import time
from typing import Self


def size(num_bytes: int) -> str:
    """A number of bytes, for a person."""
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


class Progress:
    """Counts bytes; one line that is rewritten on a terminal, one line every tenth elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = max(total, 1)
        self.done = 0
        self.start = time.monotonic()
        self.shown = 0.0
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live and self.shown > 0 and self.done < self.total:  # an error starts on a line of its own
            print(file=sys.stderr)

    def __call__(self, num_bytes: int) -> None:
        """Note that `num_bytes` more have been read and written."""
        self.done += num_bytes
        seconds = time.monotonic() - self.start
        step = 0.1 if self.live else self.total / 10
        if (seconds if self.live else self.done) - self.shown >= step or self.done >= self.total:
            self.shown = seconds if self.live else self.done
            self._show(seconds)

    def _show(self, seconds: float) -> None:
        rate = self.done / max(seconds, 1e-6)
        left = (self.total - self.done) / max(rate, 1.0)
        line = f"{self.done / self.total:4.0%}  {size(self.done)}  {rate / 1e6:.0f} MB/s  {left:.0f} s left"
        end = "" if self.live and self.done < self.total else "\n"
        print(f"\r\x1b[K{line}" if self.live else line, end=end, file=sys.stderr, flush=True)
