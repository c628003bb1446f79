"""Attention weights against transformers' eager attention, in fp32."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from lessons import TEXT_SCALE, tiny
from numpy.typing import NDArray
from record import arguments, build
from spine import CASES, prompts
from test_lora import pair

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.inference.attention import attention
from mlx_llava.inputs import TEXT, Batch, collate
from mlx_llava.models.llava import Llava

ANSWER = 4  # positions at the end that stand for an answer


def theirs(model: Any, batch: Batch, columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """Means over heads and layers of the weights that transformers reports."""
    with torch.no_grad():
        layers = model(**arguments(batch), output_attentions=True).attentions
    return torch.stack(layers).mean((0, 1, 2)).numpy()[-ANSWER:][:, columns]


def ours(model: Llava, batch: Batch, columns: NDArray[np.intp]) -> NDArray[np.float32]:
    """The same by our second pass."""
    x = model.embed(mx.array(batch.tokens), mx.array(batch.slots), model.features(model.vision_states(batch.crops)))
    return np.array(attention(model.language_model, x, ANSWER, mx.array(columns)))


def assert_same(model: Llava, reference: Any, case: str) -> None:
    rows = from_hf(CASES[case].config()).rows_per_crop
    for kind in ("one picture", "two pictures in one prompt", "two pictures in two turns"):
        batch = collate([prompts(rows)[kind]])
        columns = np.flatnonzero(batch.slots[0] != TEXT)
        expected = theirs(reference, batch, columns)
        assert expected.shape == (ANSWER, rows * len(batch.crops))
        np.testing.assert_allclose(ours(model, batch, columns), expected, rtol=0, atol=1e-6)  # shares of about 0.02


@pytest.mark.parametrize("case", CASES)
def test_shares_are_those_of_eager_attention(case: str) -> None:
    reference = build(CASES[case], TEXT_SCALE)
    reference.set_attn_implementation("eager")
    assert_same(tiny(case), reference, case)


@pytest.mark.parametrize("case", ["plain", "grouped queries"])
def test_shares_are_those_of_eager_attention_with_adapters(case: str) -> None:
    model, peft, _ = pair(case)
    model.eval()
    peft.eval().base_model.model.set_attn_implementation("eager")
    assert_same(model, peft, case)
