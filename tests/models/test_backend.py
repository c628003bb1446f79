"""The dtype that the device computes in, and its memory."""

from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx.utils import tree_map
from mlx_lm.models.cache import KVCache
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.models.backend import adapt_to_device, memory_limit, on_cpu, to_compute_dtype
from mlx_llava.models.cpu_layers import CPUQuantizedLinear
from mlx_llava.models.llama import Llama


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
