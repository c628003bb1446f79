"""What a conversion prints on stderr: percentage, rate and time left."""

import sys
import time
from typing import Self

from mlx_llava.program.text import size


class Progress:
    """Counts bytes: one line that is rewritten on a terminal, elsewhere a line for every 10 %."""

    def __init__(self, total: int) -> None:
        self.total = max(total, 1)
        self.done = 0
        self.start = time.monotonic()
        self.shown = 0.0
        self.live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.live and self.shown > 0 and self.done < self.total:  # so that an error starts on its own line
            print(file=sys.stderr)

    def __call__(self, num_bytes: int) -> None:
        """Count `num_bytes` more, and print a line if it is time."""
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
