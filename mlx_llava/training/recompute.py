"""Gradient checkpointing: run a block without keeping its activations, and again in the backward pass."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn


def recompute_block(block: nn.Module, x: mx.array, mask: mx.array | str | None, cache: None = None) -> mx.array:
    """A `BlockRunner` whose backward pass runs the block again, with the same dropout.

    Trainable weights are passed as an argument, or they would get no gradient; the mask is not, as `mx.checkpoint`
    takes no integer arguments. The random state is rewound for the second run and restored after it.
    """
    seed, num_runs = random_seed_now(), 0

    def run(weights: dict[str, Any], x: mx.array) -> mx.array:
        nonlocal num_runs
        num_runs += 1
        seed_after = random_seed_now()
        mx.random.seed(seed)
        block.update(weights)
        y = block(x, mask, cache)
        if num_runs > 1:
            mx.random.seed(seed_after)
        return y

    return mx.checkpoint(run)(block.trainable_parameters(), x)


def random_seed_now() -> int:
    """The seed that returns MLX's random state to its current value."""
    high, low = mx.random.state[0].tolist()  # pyright: ignore
    return high << 32 | low
