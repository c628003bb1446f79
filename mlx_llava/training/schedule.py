"""Learning-rate schedule: linear warm-up, then cosine decay to zero."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """The factor on the peak learning rates at each step: `get_cosine_schedule_with_warmup` of transformers."""

    num_steps: int
    warmup_ratio: float = 0.03
    """Fraction of the steps in which the factor rises from zero."""

    @property
    def num_warmup_steps(self) -> int:
        """Steps of the warm-up, rounded up (transformers/training_args.py, `get_warmup_steps`)."""
        return math.ceil(self.num_steps * self.warmup_ratio)

    def __call__(self, step: int) -> float:
        """The factor of a step, counted from 0; with a warm-up, the first is zero."""
        warmup = self.num_warmup_steps
        if step < warmup:
            return step / warmup
        done = (step - warmup) / max(1, self.num_steps - warmup)
        return max(0.0, 0.5 * (1.0 + math.cos(math.pi * done)))
