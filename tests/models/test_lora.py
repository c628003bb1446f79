"""Adapters: their layers, their initialization, and training on a quantized base."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from lessons import LORA, adapted, batch, lessons, tiny, values
from mlx.utils import tree_map

from mlx_llava.checkpoint.adapters import load, save
from mlx_llava.models import backend
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import LAYERS, Lora, attach
from mlx_llava.training.optimizer import AdamW, OptimizerOptions, trainable
from mlx_llava.training.step import loss_and_gradients, train_only, train_step

MODES = [(64, 4, "affine"), (32, 8, "affine"), (64, 3, "affine"), (32, 4, "mxfp4"), (16, 4, "nvfp4"), (32, 8, "mxfp8")]
Options = tuple[int, int, str]


def quantized(options: Options) -> Llava:
    """A base whose decoder is quantized as by `convert -q`."""
    model = tiny("attention bias")
    group_size, bits, mode = options
    nn.quantize(
        model,
        group_size,
        bits,
        mode=mode,
        class_predicate=lambda path, layer: "language" in path and hasattr(layer, "to_quantized"),
    )
    backend.adapt_to_device(model)
    return model


def dequantized(model: Llava) -> Llava:
    """The same base with its quantized weights in float32."""

    def widen(layer: Any) -> Any:
        if not isinstance(layer, nn.QuantizedLinear | nn.QuantizedEmbedding):
            return layer
        plain = (
            nn.Embedding(1, 1) if isinstance(layer, nn.QuantizedEmbedding) else nn.Linear(1, 1, bias="bias" in layer)
        )
        quantization = (layer.group_size, layer.bits, layer.mode)
        plain.weight = mx.dequantize(layer.weight, layer.scales, layer.get("biases"), *quantization, dtype=mx.float32)
        if "bias" in layer:
            plain.bias = layer.bias  # pyright: ignore
        return plain

    model.update_modules(tree_map(widen, model.leaf_modules(), is_leaf=nn.Module.is_module))
    return model


def test_adapters_are_on_the_seven_layers_of_every_block_and_nowhere_else() -> None:
    model = adapted(tiny())
    train_only(model, "adapters")
    expected = {
        f"language_model.layers.{n}.{layer}.{x}" for n in range(3) for layer in LAYERS for x in ("lora_a", "lora_b")
    }
    assert len(LAYERS) == 7
    assert trainable(model).keys() == expected
    train_only(model, "adapters", "projector")
    assert trainable(model).keys() == expected | {n for n in values(model) if n.startswith("projector.")}


def test_new_adapters_change_nothing_and_start_uniform() -> None:
    model, one = tiny(), batch(*lessons())
    before = mx.array(model(one))
    attach(model, Lora(rank=32, alpha=64.0, dropout=0.0))
    assert mx.array_equal(model(one), before)
    train_only(model, "adapters")
    for name, value in trainable(model).items():
        width = value.shape[0]
        if name.endswith("lora_a"):
            assert 0.98 < np.abs(np.array(value)).max() * width**0.5 <= 1.0  # 2048 draws from ±1/√inputs
            assert np.array(value).std() * (3 * width) ** 0.5 == pytest.approx(1.0, abs=0.05)
        else:
            assert not np.array(value).any()


def test_only_adapters_and_projector_move_in_training() -> None:
    model = adapted(tiny())
    before, optimizer = values(model), AdamW(model, OptimizerOptions(1e-3, mm_projector_lr=1e-4))
    train_step(model, optimizer, [batch(*lessons())], 1.0)
    changed = {name for name, value in values(model).items() if not np.array_equal(value, before[name])}
    assert changed == trainable(model).keys()


@pytest.mark.parametrize("options", MODES)
def test_gradients_on_a_quantized_base_are_those_on_its_dequantized_weights(options: Options) -> None:
    one = batch(*lessons("attention bias"))
    loss, _, gradients = loss_and_gradients(adapted(quantized(options)), one)
    same, _, expected = loss_and_gradients(adapted(dequantized(quantized(options))), one)
    assert float(loss) == pytest.approx(float(same), rel=1e-6)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        worst = np.abs(np.array(gradient) - np.array(expected[name])).max()
        assert worst <= 1e-5 * np.abs(np.array(expected[name])).max(), name  # float32
        assert np.array(gradient).any()


def test_a_quantized_base_learns_through_its_adapters() -> None:
    model = quantized(MODES[0])
    attach(model, LORA)
    train_only(model, "adapters", "projector")
    optimizer, one = AdamW(model, OptimizerOptions(1e-2)), batch(*lessons("attention bias"))
    losses = [train_step(model, optimizer, [one], 1.0).loss for _ in range(20)]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("options", MODES)
def test_adapters_of_a_quantized_base_can_be_loaded_onto_it(options: Options, tmp_path: Path) -> None:
    model, other = adapted(quantized(options)), quantized(options)
    save(tmp_path, model, LORA, "a base", projector=False)
    load(tmp_path, other, "a base")
    ours, theirs = values(model), values(other)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
