"""Training metrics: a log line per step, and metrics.jsonl."""

import json
import math
import time
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.program.atomic import write_file
from mlx_llava.program.text import duration, size
from mlx_llava.training.step import Step

START_UP = 2  # steps that say nothing about the time of later ones: kernels are compiled, workers start


def cut_after(file: Path, step: int) -> None:
    """Remove the rows after a step, which a resumed run writes again, and a last row that was cut short."""
    if not file.exists():
        return
    lines = file.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if _step(line) <= step]
    if kept != lines:
        write_file(file, b"".join(kept))


def _step(line: bytes) -> float:
    """The step of a row; infinite for one that is cut short."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return math.inf


class Meters:
    """Counts and times of a run."""

    def __init__(self, file: Path, num_steps: int) -> None:
        self.file = file
        self.num_steps = num_steps
        self.last = self.steady_since = time.monotonic()
        self.recorded = 0  # steps, without those before a resumption
        self.skipped = self.skipped_in_a_row = 0

    def record(self, number: int, step: Step, rates: dict[str, float], num_positions: int, records: list[int]) -> str:
        """Append a step to metrics.jsonl and return its log line.

        Args:
            number: of the step, from 1.
            rates: learning rates by group.
            num_positions: positions that went through the model, including padding and images.
            records: the numbers of a skipped step's records.
        """
        now = time.monotonic()
        seconds, self.last = now - self.last, now
        self.recorded += 1
        if self.recorded == START_UP:
            self.steady_since = now
        self.skipped += step.skipped
        self.skipped_in_a_row = self.skipped_in_a_row + 1 if step.skipped else 0
        metrics: dict[str, Any] = {
            "step": number,
            "loss": step.loss if not step.skipped else None,
            "grad_norm": step.grad_norm if not step.skipped else None,
            "answer_tokens": step.num_tokens,
            "positions_per_second": num_positions / max(seconds, 1e-9),
            "peak_memory": mx.get_peak_memory(),
            "skipped": self.skipped,
            **{f"rate_{name}": rate for name, rate in rates.items()},
            **({"records": records} if records else {}),
        }
        with self.file.open("a") as out:
            out.write(json.dumps(metrics) + "\n")
        return self._line(metrics, step.loss, rates)

    def _line(self, metrics: dict[str, Any], loss: float, rates: dict[str, float]) -> str:
        number = metrics["step"]
        return (
            f"{number}/{self.num_steps}  loss {loss:.4f}  "
            f"rate {', '.join(f'{rate:.2e}' for rate in rates.values())}  "
            f"{metrics['positions_per_second']:.0f} positions/s  peak {size(metrics['peak_memory'])}"
            + self._left(number)
            + (f"  {self.skipped} skipped" if self.skipped else "")
        )

    def _left(self, number: int) -> str:
        """The time left, once steps after the start-up show how long one takes."""
        steady = self.recorded - START_UP
        if steady < 1:
            return ""
        return f"  {duration((self.num_steps - number) * (self.last - self.steady_since) / steady)} left"
