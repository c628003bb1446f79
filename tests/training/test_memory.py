"""The estimate of a step's memory, against what MLX counted."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.inputs import TEXT, Batch, no_crops
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import Lora, attach
from mlx_llava.training.memory import Sizes, step_memory
from mlx_llava.training.step import loss_and_gradients, train_only

CONFIG = from_hf(CASES["plain"].config())
SHAPES = {
    "many short": (Sizes(rows=16, length=48, answers=12), 4, 256, 8),
    "few long": (Sizes(rows=2, length=256, answers=40), 3, 256, 8),
    "many words": (Sizes(rows=4, length=64, answers=60), 2, 128, 4000),
    "deep": (Sizes(rows=2, length=64, answers=20), 12, 352, 256),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_within_a_factor_of_one_and_a_half(name: str, recompute: bool) -> None:
    sizes, layers, hidden, words = SHAPES[name]
    text = replace(
        CONFIG.text,
        hidden_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        vocab_size=max(words, 64),
    )
    model = Llava(replace(CONFIG, text=text))
    attach(model, Lora(2, 4.0, 0.0))
    train_only(model, "adapters")
    model.language_model.recompute = recompute
    mx.eval(model.parameters())
    shape = sizes.rows, sizes.length
    mask = np.zeros(shape, bool)
    mask[:, -sizes.answers :] = True
    batch = Batch(np.ones(shape, np.int32), np.full(shape, TEXT, np.int32), mask, no_crops(), np.array(shape[:1]))
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    loss, _, gradients = loss_and_gradients(model, batch)
    mx.eval(loss, gradients)
    measured = mx.get_peak_memory() - before
    assert measured / 1.5 < step_memory(text, sizes, 4, recompute=recompute) < measured * 1.5
