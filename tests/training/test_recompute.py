"""Gradient checkpointing: the same bits, less memory."""

from dataclasses import replace

import mlx.core as mx
import pytest
from lessons import LORA, adapted, batch, lessons, tiny
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.models.llama import BlockRunner, Llama, forward
from mlx_llava.models.llava import Llava
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.optimizer import Arrays
from mlx_llava.training.recompute import random_seed_now, recompute_block
from mlx_llava.training.step import loss_and_gradients, train_only

DEPTH = 12


def gradients(model: Llava, run_block: BlockRunner) -> tuple[mx.array, Arrays, int]:
    """The loss, the gradients, and the random seed afterwards."""
    mx.random.seed(7)
    loss, _, arrays = loss_and_gradients(model, batch(*lessons()), run_block)
    mx.eval(loss, arrays)
    return loss, arrays, random_seed_now()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_are_the_same_bits_dropout_among_them(dropout: float) -> None:
    model = adapted(tiny(), replace(LORA, dropout=dropout))
    stored, recomputed = gradients(model, forward), gradients(model, recompute_block)
    assert float(stored[0]) == float(recomputed[0])
    assert stored[1].keys() == recomputed[1].keys()
    assert all(mx.array_equal(stored[1][name], recomputed[1][name]) for name in stored[1])
    assert stored[2] == recomputed[2]


def test_a_window_and_whole_layers_have_the_same_gradients_too() -> None:
    model = tiny("mistral, window 8")
    train_only(model, "projector", "language_model")
    one = batch(*lessons("mistral, window 8"))
    _, _, stored = loss_and_gradients(model, one)
    _, _, recomputed = loss_and_gradients(model, one, recompute_block)
    assert all(mx.array_equal(stored[name], recomputed[name]) for name in stored)


def peak(llama: Llama, run_block: BlockRunner) -> int:
    """Bytes that the gradient of the hidden states takes."""
    x = mx.random.normal((2, 128, llama.norm.weight.size))
    mx.eval(x)
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(mx.grad(lambda x: llama.decode(x, run_block=run_block).sum())(x))
    return mx.get_peak_memory() - before


def test_twelve_blocks_take_less_than_a_third_of_the_memory() -> None:
    llama = Llama(replace(from_hf(CASES["plain"].config()).text, num_hidden_layers=DEPTH))
    llama.freeze()
    llama.train()
    mx.eval(llama.parameters())
    stored = peak(llama, forward)
    assert (
        peak(llama, recompute_block) < stored / 3
    )  # a block and its gradient at a time, and the states between blocks


def test_hidden_states_are_the_same_bits() -> None:
    model = tiny().language_model
    x = mx.random.normal((2, 16, model.norm.weight.size))
    assert mx.array_equal(model.decode(x, run_block=recompute_block), model.decode(x))


def test_a_loss_recomputes_only_on_request(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, calls = mx.checkpoint, []
    monkeypatch.setattr(mx, "checkpoint", lambda block: calls.append(block) or checkpoint(block))
    answer_loss(tiny(), batch(*lessons()))
    assert not calls
    answer_loss(tiny(), batch(*lessons()), recompute_block)
    assert calls
