"""What a run is going to do and to take, told before its first step, and refused where it cannot be had."""

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.data.examples import Examples
from mlx_llava.errors import LimitError, UsageError
from mlx_llava.models import backend
from mlx_llava.training.loop import Run
from mlx_llava.training.memory import Sizes, step_memory
from mlx_llava.training.schedule import Schedule

STATE = 16  # bytes for each trained number: master, two moments and a gradient in float32


def plan(run: Run) -> str:
    """What is trained, in how many steps, and about how much memory that takes.

    Raises LimitError where it does not fit, UsageError where the run would end before its warm-up has begun.
    """
    schedule = Schedule(run.num_steps, run.warmup_ratio)
    if not any(schedule(step) for step in range(min(run.num_steps, 2))):
        raise UsageError(
            f"one step of {run.order.batch_size * run.order.accumulation} conversations is all, and its rate is zero",
            "Give a lower --accumulation or --batch-size, more --epochs, or --warmup-ratio 0.",
        )
    flat: list[tuple[str, mx.array]] = tree_flatten(run.model.parameters())  # pyright: ignore
    weights = sum(weight.nbytes for _, weight in flat)
    trained = sum(master.size for master in run.optimizer.masters.values())
    memory = weights + STATE * trained + run.step_memory
    free = backend.memory_limit() + weights  # the weights are there already
    told = f"weights {_gb(weights)}, training state {_gb(STATE * trained)}, a batch {_gb(run.step_memory)}"
    if memory > free:
        smaller = "Train adapters on a packed model (convert -q, then mlx-llava lora), or give them a lower --rank."
        shorter = "Give a lower --batch-size and a higher --accumulation, or --recompute True."
        advice = smaller if weights + STATE * trained > free else shorter
        raise LimitError(f"{told}: more than the {_gb(free)} that there are", advice)
    return (
        f"{trained / 1e6:.2f} million parameters trained, {run.num_steps} steps of up to "
        f"{run.order.batch_size * run.order.accumulation} conversations; about {_gb(memory)}: {told}"
    )


def largest_step(checkpoint: Checkpoint, examples: Examples, batch_size: int, *, recompute: bool) -> int:
    """Bytes of activations for a batch of conversations as long as the one with the most words, about."""
    words = examples.dataset.lengths
    longest = int(np.argmax(np.abs(words) + (words > 0) * examples.builder.rows_per_crop))
    example = examples.builder.example(examples.dataset[longest], blind=True)
    sizes = Sizes(min(batch_size, len(examples)), len(example.tokens), int(example.label_mask.sum()))
    num_bytes = checkpoint.model.language_model.norm.weight.dtype.size
    return step_memory(checkpoint.config.text, sizes, num_bytes, recompute=recompute)


def _gb(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"
