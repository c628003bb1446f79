"""What a run will do and how much memory it needs, by estimate; raises LimitError before the first step if too much.

The estimate counts the arrays that the backward pass of a decoder block needs; tests hold it against MLX's own count.
"""

from typing import NamedTuple

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.config import TextConfig
from mlx_llava.data.examples import Examples
from mlx_llava.errors import LimitError, UsageError
from mlx_llava.models import backend
from mlx_llava.program.flags import flag_name
from mlx_llava.program.text import size
from mlx_llava.training.loop import Run

STATE = 16  # bytes per trained parameter: master, two moments and a gradient in float32
LOGITS = 4  # float32 arrays of the language head's size: logits, their exponentials, probabilities, gradient
BACKWARD = 2  # a recomputed block exists together with its gradients


class BatchSize(NamedTuple):
    """The largest batch of a run."""

    rows: int  # conversations
    length: int  # tokens of the longest
    answers: int  # answer tokens of the longest


def plan(run: Run) -> list[str]:
    """Lines on how many steps a run takes, what it trains, and about how much memory it needs.

    Raises LimitError if it does not fit, UsageError if the run would end before its warm-up begins.
    """
    if not any(run.schedule(step) for step in range(min(run.num_steps, 2))):
        raise UsageError(
            f"{run.sizes}: the only step is the warm-up's first, whose learning rate is zero",
            "Give more --epochs or --steps, a lower --accumulation or --batch-size, or --warmup-ratio 0.",
        )
    flat: list[tuple[str, mx.array]] = tree_flatten(run.model.parameters())  # pyright: ignore
    weights = sum(weight.nbytes for _, weight in flat)
    num_trained = sum(master.size for master in run.optimizer.masters.values())
    state = STATE * num_trained
    memory, free = weights + state + run.step_memory, backend.memory_limit() + weights  # the weights are loaded
    parts = f"weights {size(weights)}, training state {size(state)}, a batch {size(run.step_memory)}"
    if memory > free:
        smaller = "Train adapters on a quantized model (convert -q, then mlx-llava lora), or lower their --rank."
        shorter = "Give a lower --batch-size and a higher --accumulation, or --recompute."
        raise LimitError(
            f"{parts}: more than the available {size(free)}", smaller if weights + state > free else shorter
        )
    *some, last = [*map(flag_name, run.sizes.chosen)] or [""]
    change = f"; set {', '.join(some)}{' or ' * bool(some)}{last} to change" if last else ""
    return [
        f"{run.sizes}{change}",
        f"{num_trained / 1e6:.2f} million trained parameters; about {size(memory)}: {parts}",
    ]


def largest_step(checkpoint: Checkpoint, examples: Examples, batch_size: int, *, recompute: bool) -> int:
    """Approximate bytes of activations for a batch in which every conversation is as long as the longest one."""
    words = examples.dataset.lengths
    longest = int(np.argmax(np.abs(words) + (words > 0) * examples.builder.rows_per_image))
    example = examples.builder.example(examples.dataset[longest], open_images=False)
    size = BatchSize(min(batch_size, len(examples)), len(example.tokens), int(example.label_mask.sum()))
    num_bytes = checkpoint.model.language_model.norm.weight.dtype.size
    return step_memory(checkpoint.config.text, size, num_bytes, recompute=recompute)


def step_memory(text: TextConfig, batch: BatchSize, num_bytes: int, *, recompute: bool) -> int:
    """Bytes of activations in a step, at `num_bytes` per number."""
    positions = batch.rows * batch.length
    block = positions * _block(text, batch.length) * num_bytes
    state = positions * text.hidden_size * num_bytes
    layers = text.num_hidden_layers
    blocks = layers * state + BACKWARD * block if recompute else layers * block
    return blocks + LOGITS * 4 * batch.rows * batch.answers * text.vocab_size


def _block(text: TextConfig, length: int) -> int:
    """Numbers that a block keeps per position.

    Hidden size: two inputs, two norms, the first sum. Queries before and after rotation, attention's output. Keys
    and values, rotated keys. Scores and their softmax. In the MLP: gate, sigmoid, silu, up, product.
    """
    queries, keys = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    scores = 2 * text.num_attention_heads * length
    return 5 * text.hidden_size + 3 * queries + 3 * keys + scores + 5 * text.intermediate_size
