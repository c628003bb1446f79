"""Activation functions, by the names that configs use."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn


def quick_gelu(x: mx.array) -> mx.array:
    """x · σ(1.702 x), CLIP's approximation of GELU."""
    return x * mx.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,  # exact, with erf
    "gelu_new": nn.gelu_approx,
    "gelu_pytorch_tanh": nn.gelu_approx,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "silu": nn.silu,
}
"""Activation functions by the names that configs use, also those of projectors."""
