"""Training metrics: a log line per step, and metrics.jsonl."""

import json
import time
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.program.text import size
from mlx_llava.training.step import Step


class Meters:
    """Counts and times of a run."""

    def __init__(self, file: Path, num_steps: int, first_step: int) -> None:
        self.file = file
        self.num_steps = num_steps
        self.first_step = first_step
        self.started = self.last = time.monotonic()
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
        left = (self.num_steps - number) * (self.last - self.started) / max(number - self.first_step, 1)
        return (
            f"{number}/{self.num_steps}  loss {loss:.4f}  "
            f"rate {', '.join(f'{rate:.2e}' for rate in rates.values())}  "
            f"{metrics['positions_per_second']:.0f} positions/s  peak {size(metrics['peak_memory'])}  "
            f"{_time(left)} left" + (f"  {self.skipped} skipped" if self.skipped else "")
        )


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
