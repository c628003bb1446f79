"""A KV cache of MLX filled like that of a long prompt."""

from typing import Any

import mlx.core as mx
from sides.timing import HEAD_DIM, KV_HEADS, LENGTH


def fill(layers: list[Any], batch: int = 1) -> list[Any]:
    """Fill caches with noise in place of a prompt's keys and values; the time of a step does not depend on them."""
    shape = (batch, KV_HEADS, LENGTH, HEAD_DIM)
    for layer in layers:
        mx.eval(layer.update_and_fetch(mx.random.normal(shape), mx.random.normal(shape)))
    return layers
