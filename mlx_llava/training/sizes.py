"""Batch size, accumulation, epochs and steps of a run: as given, otherwise chosen from the size of the data.

Large data is trained in LLaVA's own batches and one epoch. With those, a person's own 40 images would make a single
step, at a rate of zero.
"""

import math
from dataclasses import dataclass, replace

from mlx_llava.training.options import PretrainOptions, TrainingOptions

ENOUGH_STEPS = 50  # fewer hardly train
SMALLEST_BATCH = 4
# LLaVA-1.5's scripts/v1_5/pretrain.sh, finetune.sh and finetune_lora.sh, per device, and their 8 devices
PRETRAIN_BATCH, BATCH, ACCUMULATION = 32, 16, 8


@dataclass(frozen=True)
class Sizes:
    """What decides the steps of a run."""

    num_examples: int
    batch_size: int
    accumulation: int
    epochs: int
    max_steps: int | None = None
    """The run ends after these steps, if its epochs have not ended it before."""
    chosen: tuple[str, ...] = ()
    """Names of the options that were not given."""

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch; the last may have fewer batches."""
        return math.ceil(math.ceil(self.num_examples / self.batch_size) / self.accumulation)

    @property
    def num_steps(self) -> int:
        """Steps of the whole run."""
        steps = self.epochs * self.steps_per_epoch
        return min(steps, self.max_steps or steps)

    def __str__(self) -> str:
        """For example `40 conversations: batch 4, 5 epochs, 50 steps`."""
        batch = f"batch {self.batch_size}" + f" x {self.accumulation}" * (self.accumulation > 1)
        counts = (self.num_examples, "conversation"), (self.epochs, "epoch"), (self.num_steps, "step")
        examples, epochs, steps = (f"{count} {name}{'s' * (count != 1)}" for count, name in counts)
        return f"{examples}: {batch}, {epochs}, {steps}"


def sizes_of(options: TrainingOptions, num_examples: int) -> Sizes:
    """The sizes of a run: accumulation shrinks first, then the batch, then epochs grow, until the steps are enough."""
    given = {name: getattr(options, name) for name in ("batch_size", "accumulation", "epochs")}
    chosen = tuple(name for name, value in given.items() if value is None)
    batch_size = options.batch_size or (PRETRAIN_BATCH if isinstance(options, PretrainOptions) else BATCH)
    sizes = Sizes(num_examples, batch_size, options.accumulation or ACCUMULATION, options.epochs or 1, chosen=chosen)
    if "accumulation" in chosen:
        while sizes.num_steps < ENOUGH_STEPS and sizes.accumulation > 1:
            sizes = replace(sizes, accumulation=sizes.accumulation // 2)
    if "batch_size" in chosen:
        while sizes.num_steps < ENOUGH_STEPS and sizes.batch_size > SMALLEST_BATCH:
            sizes = replace(sizes, batch_size=sizes.batch_size // 2)
    if "epochs" in chosen:
        sizes = replace(sizes, epochs=math.ceil((options.steps or ENOUGH_STEPS) / sizes.steps_per_epoch))
    return replace(sizes, max_steps=options.steps)
