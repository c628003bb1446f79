"""Attention and activation functions: MLX's own on a GPU, and on the CPU functions that avoid its exp.

On a Linux CPU MLX's exp takes 9 ns for a number, its tanh 14, and `mx.power` 3 (docs/log.md, 2026-11-28).
"""

import math
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from mlx_llava.models.backend import on_cpu

QUERIES = 128  # queries whose scores are in memory at the same time, on the CPU


def _exp(x: mx.array, sign: int = 1) -> mx.array:
    """exp(±x) = (e⁸)^(±x/8) in float32, within one ulp: e⁸ is close to a float32, 40 times closer than e."""
    return mx.power(mx.array(math.exp(8)), x.astype(mx.float32) * (sign / 8))


@mx.custom_function
def _sigmoid(x: mx.array) -> mx.array:
    return mx.reciprocal(1 + _exp(x, -1)).astype(x.dtype)


@_sigmoid.vjp
def _(x: mx.array, gradient: mx.array, y: mx.array) -> mx.array:
    return gradient * y * (1 - y)


@mx.custom_function
def _softmax(x: mx.array) -> mx.array:
    y = _exp(x - x.max(-1, keepdims=True))
    return (y / y.sum(-1, keepdims=True)).astype(x.dtype)


@_softmax.vjp
def _(x: mx.array, gradient: mx.array, y: mx.array) -> mx.array:
    product = gradient * y
    return product - y * product.sum(-1, keepdims=True)


def sigmoid(x: mx.array) -> mx.array:
    """1 / (1 + exp(-x))."""
    return _sigmoid(x) if on_cpu() else mx.sigmoid(x)  # pyright: ignore[reportReturnType]


def silu(x: mx.array) -> mx.array:
    """x · σ(x)."""
    return x * sigmoid(x) if on_cpu() else nn.silu(x)


def quick_gelu(x: mx.array) -> mx.array:
    """x · σ(1.702 x), CLIP's approximation of GELU."""
    return x * sigmoid(1.702 * x)


def gelu_tanh(x: mx.array) -> mx.array:
    """GELU with the cubic approximation of erf by tanh (Hendrycks and Gimpel 2016); (1 + tanh(u)) / 2 = σ(2 u)."""
    return x * sigmoid(math.sqrt(8 / math.pi) * (x + 0.044715 * x * x * x)) if on_cpu() else nn.gelu_approx(x)


ACTIVATIONS: dict[str, Callable[[mx.array], mx.array]] = {
    "gelu": nn.gelu,  # exact, with erf
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
    "silu": silu,
}
"""Activation functions by the names that configs use, also those of projectors."""


def attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: mx.array | str | None) -> mx.array:
    """softmax(Q Kᵀ · scale) V of `q [B, heads, T, D]`; several heads may share one of `k` and `v [B, heads, S, D]`.

    `mask` is "causal", or an array for `[B, heads, T, S]`, true where a query sees a key or added to the scores.
    """
    if not on_cpu():
        return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)
    length = q.shape[2]
    q = mx.unflatten(q * scale, 1, (k.shape[1], -1))  # [B, heads of k, queries that share a key, T, D]
    starts = range(0, length, QUERIES)
    parts = [_attend(q[..., n : n + QUERIES, :], k, v, mask, n, length) for n in starts]
    return (parts[0] if len(parts) == 1 else mx.concatenate(parts, axis=3)).flatten(1, 2)


def _attend(q: mx.array, k: mx.array, v: mx.array, mask: mx.array | str | None, first: int, length: int) -> mx.array:
    """Attention of some queries, of which the first is number `first` of `length`."""
    count = q.shape[3]
    if isinstance(mask, str):  # the keys that the last of these queries sees, and those before them
        seen = k.shape[2] - length + first + count
        k, v = k[:, :, :seen], v[:, :, :seen]
        mask = mx.arange(seen - count, seen)[:, None] >= mx.arange(seen)
    elif mask is not None:
        mask = mask[..., first : first + count, :]
        mask = mx.expand_dims(mask, 2) if mask.ndim == 4 else mask
    scores = q.flatten(2, 3) @ k.swapaxes(-1, -2)
    if mask is not None:
        scores = _masked(mx.unflatten(scores, 2, (-1, count)), mask).flatten(2, 3)
    return mx.unflatten(_softmax(scores) @ v, 2, (-1, count))  # pyright: ignore


def _masked(scores: mx.array, mask: mx.array) -> mx.array:
    return mx.where(mask, scores, mx.finfo(scores.dtype).min) if mask.dtype == mx.bool_ else scores + mask
