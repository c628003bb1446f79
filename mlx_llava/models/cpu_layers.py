"""Quantized layers on the CPU, where MLX's quantized product is a scalar loop.

The C extension (`program/_cpu.c`) multiplies by 4 and 8 bits. Without it, and with other bits, more than a few rows
are multiplied by the dequantized weight.
"""

from typing import TypeGuard

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_llava.program import blas

# A 2048 x 2048 product at 4 bits takes 2.7 ms per row in MLX, and 7 ms for any few rows with a dequantized weight.
FEW_ROWS = 2

Quantized = nn.QuantizedLinear | nn.QuantizedEmbedding


class CPUQuantizedLinear(nn.QuantizedLinear):
    """A quantized linear layer with the products of this module."""

    def __init__(self, base: nn.QuantizedLinear) -> None:
        _take(self, base)

    def __call__(self, x: mx.array) -> mx.array:
        y = _product(self, x)
        return y + self.bias if "bias" in self else y


class CPUQuantizedEmbedding(nn.QuantizedEmbedding):
    """A quantized embedding; as the head of a tied model it has the products of this module."""

    def __init__(self, base: nn.QuantizedEmbedding) -> None:
        _take(self, base)

    def as_linear(self, x: mx.array) -> mx.array:
        """Logits of hidden states `x [..., dims]`."""
        return _product(self, x)


def for_cpu(layer: nn.Module) -> nn.Module:
    """A layer as the CPU computes it: with the products of this module if it is quantized."""
    if isinstance(layer, nn.QuantizedLinear):
        return CPUQuantizedLinear(layer)
    return CPUQuantizedEmbedding(layer) if isinstance(layer, nn.QuantizedEmbedding) else layer


def is_slow(layer: nn.Module) -> TypeGuard[Quantized]:
    """Whether one row takes longer than in float32: it is quantized, and the extension cannot multiply by it."""
    return isinstance(layer, Quantized) and not _has_extension(layer)


def float32_bytes(layer: Quantized) -> int:
    """Bytes of a quantized layer's weight in float32."""
    return layer.weight.size * 32 // layer.bits * 4


def dequantized(layer: Quantized) -> nn.Linear | nn.Embedding:
    """A quantized layer in float32, its weight evaluated."""
    weight = _weight(layer, layer.weight, mx.float32)
    mx.eval(weight)
    plain = nn.Embedding(1, 1) if isinstance(layer, nn.QuantizedEmbedding) else nn.Linear(1, 1, bias="bias" in layer)
    plain.update({"weight": weight} | ({"bias": layer["bias"]} if "bias" in layer else {}))
    return plain


def _has_extension(layer: Quantized) -> bool:
    is_float32 = layer.scales.dtype == mx.float32
    return blas.extension() is not None and layer.mode == "affine" and layer.bits in (4, 8) and is_float32


def _take(layer: nn.Module, base: nn.Module) -> None:
    """Give `layer` everything that `base` has."""
    dict.update(layer, base)
    vars(layer).update(vars(base))


def _product(layer: Quantized, x: mx.array) -> mx.array:
    """x Wᵀ, with a gradient for x alone.

    The gradient dequantizes W again, once it is needed, or every layer's W would stay in memory.
    """
    # the extension computes at once; in training, recomputed blocks would all be in memory at the same time
    extension = blas.extension() if _has_extension(layer) and not layer.training and x.size else None
    if extension is None and x.size <= FEW_ROWS * x.shape[-1]:
        quantization = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
        return mx.quantized_matmul(x, layer.weight, layer.scales, layer.get("biases"), **quantization)

    @mx.custom_function
    def product(x: mx.array) -> mx.array:
        if extension is None:
            return x @ _weight(layer, layer.weight, x.dtype).T
        y = np.empty((*x.shape[:-1], len(layer.weight)), np.float32)
        operands = x.astype(mx.float32), layer["weight"], layer["scales"], layer["biases"]
        extension.quantized_product(*map(mx.contiguous, operands), y, x.size // x.shape[-1], layer.bits)
        return mx.array(y)

    @product.vjp
    def _(x: mx.array, gradient: mx.array, y: mx.array) -> mx.array:
        (weight,) = mx.depends([layer.weight], [gradient])
        return gradient @ _weight(layer, weight, x.dtype)

    return product(x)  # pyright: ignore[reportReturnType]


def _weight(layer: Quantized, weight: mx.array, dtype: mx.Dtype) -> mx.array:
    quantization = (layer.group_size, layer.bits, layer.mode)
    return mx.dequantize(weight, layer.scales, layer.get("biases"), *quantization, dtype=dtype)
