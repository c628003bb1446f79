"""The CPU backend's shortcuts give the same numbers."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import KVCache
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.models.backend import (
    FEW_ROWS,
    CPUQuantizedLinear,
    adapt_to_device,
    memory_limit,
    on_cpu,
    to_compute_dtype,
)
from mlx_llava.models.llama import Llama


@pytest.mark.parametrize("settings", [(64, 4, "affine"), (32, 8, "affine"), (32, 4, "mxfp4"), (16, 4, "nvfp4")])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_with_dequantized_weights_is_the_same(settings: tuple[int, int, str], bias: bool) -> None:
    quantized = nn.QuantizedLinear.from_linear(nn.Linear(128, 96, bias=bias), *settings)
    for rows in (1, FEW_ROWS, FEW_ROWS + 1, 40):
        x = mx.random.normal((2, rows, 128))
        ours, theirs = np.array(CPUQuantizedLinear(quantized)(x)), np.array(quantized(x))
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)  # fp32, sums in another order


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


@pytest.mark.skipif(not on_cpu(), reason="on a GPU the model stays as it was loaded")
def test_on_the_cpu_a_model_computes_in_float32() -> None:
    model = nn.Sequential(nn.Linear(64, 64), nn.QuantizedLinear(64, 64))
    model.set_dtype(mx.float16)
    model.update(tree_map(to_compute_dtype, model.parameters()))
    adapt_to_device(model)
    assert [type(layer) for layer in model.layers] == [nn.Linear, CPUQuantizedLinear]
    assert model(mx.zeros((1, 64))).dtype == mx.float32
    assert model.layers[0].weight.dtype == mx.float32
    assert model.layers[1].weight.dtype == mx.uint32


@pytest.mark.parametrize("mode", ["affine", "mxfp4", "nvfp4", "mxfp8"])
@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_a_half_precision_model_stays_in_its_dtype(mode: str, dtype: mx.Dtype) -> None:
    """As on a GPU, where weights keep their dtype; otherwise the cache would take twice the memory."""
    model = Llama(from_hf(CASES["plain"].config()).text)
    model.set_dtype(dtype)
    nn.quantize(model, mode=mode)
    cache: list[Any] = [KVCache() for _ in model.layers]
    logits = model(mx.array([[1, 2, 3]]), cache)
    assert {layer.state[0].dtype for layer in cache} == {layer.state[1].dtype for layer in cache} == {dtype}
    assert model.embed(mx.array([[1]])).dtype == dtype
    assert logits.dtype == mx.float32


def test_the_memory_limit_is_a_plausible_number_of_bytes() -> None:
    assert 2**28 < memory_limit() < 2**45
