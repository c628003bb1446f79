"""Attention and activation functions against float64 and MLX's own, with their gradients."""

import math
from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray

from mlx_llava.models.functions import QUERIES, attention, gelu_tanh, quick_gelu, sigmoid, silu

Float64 = NDArray[np.float64]
X = np.concatenate([np.linspace(-80, 80, 4001), np.random.default_rng(0).normal(0, 2, 4000)]).astype(np.float32)
ULP = 2.0**-23


def exact_sigmoid(x: Float64) -> Float64:
    return 1 / (1 + np.exp(-x))


def exact_silu(x: Float64) -> Float64:
    return x * exact_sigmoid(x)


def exact_quick_gelu(x: Float64) -> Float64:
    return x * exact_sigmoid(1.702 * x)


def exact_gelu_tanh(x: Float64) -> Float64:
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FUNCTIONS = [
    (sigmoid, exact_sigmoid),
    (silu, exact_silu),
    (quick_gelu, exact_quick_gelu),
    (gelu_tanh, exact_gelu_tanh),
]


@pytest.mark.parametrize(("function", "exact"), FUNCTIONS)
def test_activations_are_exact_to_a_few_ulp(
    function: Callable[[mx.array], mx.array], exact: Callable[[Float64], Float64]
) -> None:
    np.testing.assert_allclose(np.array(function(mx.array(X))), exact(X.astype(np.float64)), rtol=8 * ULP, atol=4 * ULP)


@pytest.mark.parametrize(("function", "exact"), FUNCTIONS)
def test_gradients_of_activations_are_exact(
    function: Callable[[mx.array], mx.array], exact: Callable[[Float64], Float64]
) -> None:
    x = X.astype(np.float64)
    slope = (exact(x + 1e-5) - exact(x - 1e-5)) / 2e-5
    gradient = mx.grad(lambda x: function(x).sum())(mx.array(X))
    np.testing.assert_allclose(np.array(gradient), slope, atol=2e-6)


def test_the_sigmoid_of_extremes() -> None:
    x = mx.array([-math.inf, -1e4, 1e4, math.inf, math.nan])
    np.testing.assert_array_equal(np.array(sigmoid(x)), [0, 0, 1, 1, math.nan])
    assert mx.grad(lambda x: sigmoid(x).sum())(x[:4]).tolist() == [0, 0, 0, 0]


LONG = 2 * QUERIES + 44
BATCH_MASK = (mx.arange(LONG) >= mx.array([0, 70])[:, None])[:, None, None] & mx.tri(LONG, dtype=mx.bool_)
CASES = [
    # queries, keys, heads, heads of the keys, mask
    (65, 65, 4, 4, None),
    (LONG, LONG, 2, 2, None),
    (LONG, LONG, 4, 2, "causal"),
    (QUERIES, QUERIES, 2, 1, "causal"),
    (QUERIES + 1, LONG, 4, 1, "causal"),
    (1, 640, 8, 2, None),
    (LONG, LONG, 4, 2, mx.tri(LONG, dtype=mx.bool_)),
    (LONG, LONG, 4, 2, BATCH_MASK),
    (LONG, LONG, 2, 2, mx.where(BATCH_MASK, 0.0, -1e9)),
]


@pytest.mark.parametrize(("length", "num_keys", "heads", "kv_heads", "mask"), CASES)
def test_attention_and_its_gradients_are_those_of_mlx(
    length: int, num_keys: int, heads: int, kv_heads: int, mask: mx.array | str | None
) -> None:
    mx.random.seed(0)
    q, weights = (mx.random.normal((2, heads, length, 16)) for _ in range(2))
    k, v = (mx.random.normal((2, kv_heads, num_keys, 16)) for _ in range(2))

    def ours(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (attention(q, k, v, 0.25, mask) * weights).sum()

    def mlx(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        return (mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=mask) * weights).sum()

    wanted, got = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.25, mask=mask), attention(q, k, v, 0.25, mask)
    assert mx.allclose(got, wanted, rtol=0, atol=2e-6)
    for one, other in zip(mx.grad(ours, (0, 1, 2))(q, k, v), mx.grad(mlx, (0, 1, 2))(q, k, v), strict=True):
        assert mx.allclose(one, other, rtol=0, atol=1e-6 * float(mx.abs(other).max()))


@pytest.mark.parametrize(("dtype", "eps"), [(mx.float16, 2.0**-10), (mx.bfloat16, 2.0**-7)])
def test_attention_in_half_precision_takes_its_softmax_in_float32(dtype: mx.Dtype, eps: float) -> None:
    q, k, v = (mx.random.normal((1, 2, 9, 8), key=mx.random.key(n)).astype(dtype) for n in range(3))
    y = attention(q, k, v, 0.5, "causal")
    assert y.dtype == sigmoid(y).dtype == dtype
    wanted = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.5, mask="causal")
    assert mx.allclose(y, wanted, rtol=0, atol=4 * eps)


def test_a_query_that_sees_no_key_gets_finite_numbers() -> None:
    """Padding on the left of a batch."""
    q, mask = mx.ones((1, 1, 2, 4)), mx.array([[False, False], [True, False]])
    assert mx.isfinite(attention(q, q, q, 1.0, mask)).all().item()
