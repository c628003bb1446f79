"""What a conversion prints on stderr: percentage, rate and time left."""

import sys
import time
from typing import Self

from mlx_llava.program.run import quiet
from mlx_llava.program.text import obeys_escapes, size


class Progress:
    """Counts bytes: one line that is rewritten on a terminal that can, elsewhere a line for every 10 %."""

    def __init__(self) -> None:
        self.done = 0
        self.start = time.monotonic()
        self.printed = 0.0  # seconds on a terminal, otherwise bytes
        self.live = obeys_escapes(sys.stderr)
        self.open_line = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.open_line:  # so that an error starts on its own line
            print(file=sys.stderr)

    def __call__(self, num_bytes: int, total: int) -> None:
        """Count `num_bytes` more of `total`, and print a line if it is time."""
        self.done += num_bytes
        seconds = time.monotonic() - self.start
        now, step = (seconds, 0.1) if self.live else (self.done, total / 10)
        if now - self.printed < step and self.done < total:
            return
        self.printed = now
        if quiet():
            return
        rate = self.done / max(seconds, 1e-6)
        left = (total - self.done) / max(rate, 1.0)
        line = f"{self.done / total:4.0%}  {size(self.done)}  {rate / 1e6:.0f} MB/s  {left:.0f} s left"
        self.open_line = self.live and self.done < total
        end = "" if self.open_line else "\n"
        print(f"\r\x1b[K{line}" if self.live else line, end=end, file=sys.stderr, flush=True)
