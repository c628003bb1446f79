"""Quantized layers on the CPU give the numbers of their dequantized weights, by the extension and without it."""

from itertools import product
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest

from mlx_llava.models import backend
from mlx_llava.models.cpu_layers import FEW_ROWS, CPUQuantizedEmbedding, CPUQuantizedLinear
from mlx_llava.program import blas

MODES = [(32, 4, "mxfp4"), (16, 4, "nvfp4"), *((g, b, "affine") for g, b in product((32, 64, 128), (3, 4, 8)))]


def exact(layer: Any, x: mx.array) -> np.ndarray:
    """x Wᵀ + b in float64."""
    quantization = {"group_size": layer.group_size, "bits": layer.bits, "mode": layer.mode}
    weight = mx.dequantize(layer.weight, layer.scales, layer.get("biases"), **quantization)
    y = np.array(x, np.float64) @ np.array(weight.astype(mx.float32), np.float64).T
    return y + np.array(layer.bias) if "bias" in layer else y


@pytest.mark.parametrize("settings", MODES)
@pytest.mark.parametrize("width", [128, 1152])  # groups that fill vectors, and some left over
@pytest.mark.parametrize("training", [False, True])
def test_a_product_is_that_of_the_dequantized_weight(
    settings: tuple[int, int, str], width: int, training: bool
) -> None:
    layer = CPUQuantizedLinear(nn.QuantizedLinear.from_linear(nn.Linear(width, 70), *settings)).train(training)
    for rows in (1, FEW_ROWS, 3, 5, 16, 17, 40):
        x = mx.random.normal((2, rows, width))
        np.testing.assert_allclose(np.array(layer(x)), exact(layer, x), rtol=0, atol=1e-5)  # float32


@pytest.mark.parametrize("settings", MODES)
def test_an_embedding_is_the_head_of_a_tied_model(settings: tuple[int, int, str]) -> None:
    base = nn.QuantizedEmbedding.from_embedding(nn.Embedding(70, 128), *settings)
    layer, x, ids = CPUQuantizedEmbedding(base), mx.random.normal((2, 3, 128)), mx.array([5, 0, 69])
    layer.eval()
    np.testing.assert_allclose(np.array(layer.as_linear(x)), exact(layer, x), rtol=0, atol=2e-5)  # float32
    assert mx.array_equal(layer(ids), base(ids))


@pytest.mark.parametrize("training", [False, True])
def test_the_gradient_is_that_of_the_dequantized_weight(training: bool) -> None:
    base = nn.QuantizedLinear(128, 96)
    layer = CPUQuantizedLinear(base).train(training)
    for rows in (1, 3, 40):
        x = mx.random.normal((rows, 128))
        ours, theirs = (mx.grad(lambda x, f=f: f(x).square().sum())(x) for f in (layer, base))
        np.testing.assert_allclose(np.array(ours), np.array(theirs), rtol=0, atol=1e-4)  # float32, values near 10


def test_dequantized_weights_are_not_kept_for_the_gradient() -> None:
    layers = [nn.QuantizedLinear(512, 512) for _ in range(32)]  # 1 MB each, dequantized
    ours, plain = nn.Sequential(*map(CPUQuantizedLinear, layers)), nn.Sequential(*layers)
    mx.eval(plain.parameters())
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    x = mx.random.normal((8, 512))
    gradient = mx.grad(lambda x: ours(x).square().sum())(x)
    mx.eval(gradient)
    assert mx.get_peak_memory() - before < 16e6  # MLX makes room for some ten operations ahead
    theirs = mx.grad(lambda x: plain(x).square().sum())(x)
    difference, largest = (float(mx.abs(x).max()) for x in (gradient - theirs, theirs))
    assert difference < 1e-5 * largest  # fp32, sums in another order


@pytest.mark.skipif(not backend.on_cpu(), reason="on a GPU a model stays as it was loaded")
@pytest.mark.parametrize("free", [0, 1 << 40])
def test_slow_layers_are_dequantized_if_they_fit_twice_into_memory(free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    embedding = nn.QuantizedEmbedding(50, 64, 32, 3)
    model = nn.Sequential(
        embedding, nn.QuantizedLinear(64, 64, True, 32, 3), nn.Linear(64, 8), nn.QuantizedLinear(64, 8)
    )
    backend.adapt_to_device(model)
    layers, ids = list(model.layers), mx.array([[1, 49]])
    y = layers[1](layers[0](ids))
    monkeypatch.setattr(backend, "memory_limit", lambda: free)
    backend.dequantize_slow_layers(model)
    if not free:
        assert model.layers == layers
        return
    kinds = [nn.Embedding, nn.Linear, nn.Linear, CPUQuantizedLinear if blas.extension() else nn.Linear]
    assert [type(layer) for layer in model.layers] == kinds
    z = model.layers[1](model.layers[0](ids))
    np.testing.assert_allclose(np.array(y), np.array(z), rtol=0, atol=1e-6)  # float32, sums in another order
