"""Computing blocks again in the backward pass: the same bits, less memory."""

from dataclasses import replace

import mlx.core as mx
import pytest
from lessons import LORA, adapted, batch, lessons, tiny
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.models.llama import Llama, chance_now
from mlx_llava.models.llava import Llava
from mlx_llava.training.optimizer import Arrays
from mlx_llava.training.step import loss_and_gradients, train_only

DEPTH = 12


def gradients(model: Llava, recompute: bool) -> tuple[mx.array, Arrays, int]:
    """The loss, the gradients, and where chance stands afterwards."""
    model.language_model.recompute = recompute
    mx.random.seed(7)
    loss, _, found = loss_and_gradients(model, batch(*lessons()))
    mx.eval(loss, found)
    return loss, found, chance_now()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same_bits_dropout_among_them(dropout: float) -> None:
    model = adapted(tiny(), replace(LORA, dropout=dropout))
    kept, again = gradients(model, False), gradients(model, True)
    assert float(kept[0]) == float(again[0])
    assert kept[1].keys() == again[1].keys()
    assert all(mx.array_equal(kept[1][name], again[1][name]) for name in kept[1])
    assert kept[2] == again[2]


def test_a_window_and_whole_layers_have_the_same_gradients_too() -> None:
    model = tiny("mistral, window 8")
    train_only(model, "projector", "language_model")
    model.language_model.recompute = False
    _, _, kept = loss_and_gradients(model, batch(*lessons("mistral, window 8"), case="mistral, window 8"))
    model.language_model.recompute = True
    _, _, again = loss_and_gradients(model, batch(*lessons("mistral, window 8"), case="mistral, window 8"))
    assert all(mx.array_equal(kept[name], again[name]) for name in kept)


def peak(vicuna: Llama, recompute: bool) -> int:
    """Bytes above what was there, for the gradient of the hidden states."""
    vicuna.recompute = recompute
    x = mx.random.normal((2, 128, vicuna.norm.weight.size))
    mx.eval(x)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(lambda x: vicuna.decode(x).sum())(x))
    return mx.get_peak_memory() - before


def test_twelve_blocks_take_less_than_a_third_of_the_memory() -> None:
    vicuna = Llama(replace(from_hf(CASES["plain"].config()).text, num_hidden_layers=DEPTH))
    vicuna.freeze()
    vicuna.train()
    mx.eval(vicuna.parameters())
    kept = peak(vicuna, False)
    assert peak(vicuna, True) < kept / 3  # a block and its gradient at a time, and the states between blocks


def test_answers_never_pass_through_it() -> None:
    model = tiny()
    model.language_model.recompute = True
    model.eval()
    expected = model(batch(*lessons()))
    model.language_model.recompute = False
    assert mx.array_equal(model(batch(*lessons())), expected)
