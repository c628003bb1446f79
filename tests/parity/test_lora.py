"""LoRA against PEFT, in fp32 and without dropout."""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from lessons import LORA, TEXT_SCALE, adapted, batch, lessons, tiny
from peft import LoraConfig, get_peft_model
from record import build, modern_name
from spine import CASES, released_name
from test_training import OPTIONS, SCHEDULE, assert_close, assert_same_steps, mean_loss

from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import LAYERS, Lora, attach
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.optimizer import AdamW, trainable
from mlx_llava.training.step import loss_and_gradients, train_only, train_step

FORMS = ("plain", "grouped queries", "tied embeddings", "attention bias", "mistral, window 8")
Twins = Mapping[str, torch.nn.Parameter]


def twins(model: Llava, peft: Any) -> Twins:
    """PEFT's parameters by our names; its A and B are the transposes of ours."""
    theirs = dict(peft.named_parameters())
    found = {}
    for name in trainable(model):
        path, kind = name.rsplit(".", 1)
        if kind in ("lora_a", "lora_b"):
            module = modern_name(released_name(f"{path}.weight")).removesuffix(".weight")
            found[name] = theirs[
                f"base_model.model.{module}.{'lora_A' if kind == 'lora_a' else 'lora_B'}.default.weight"
            ]
        else:
            found[name] = theirs[f"base_model.model.{modern_name(released_name(name))}"]
    return found


def pair(case: str) -> tuple[Llava, Any, Twins]:
    """Ours and PEFT's model with equal adapters, whose B is not zero any more."""
    model = adapted(tiny(case))
    pattern = r"model\.language_model\.layers\.\d+\.(" + "|".join(LAYERS).replace(".", r"\.") + ")"
    config = LoraConfig(r=LORA.rank, lora_alpha=int(LORA.alpha), lora_dropout=0.0, target_modules=pattern)
    peft = get_peft_model(build(CASES[case], TEXT_SCALE), config)  # pyright: ignore
    pairs = twins(model, peft)
    for name, twin in pairs.items():
        twin.requires_grad_(True)
        if "lora" in name:
            twin.data = torch.tensor(np.array(trainable(model)[name]).T.copy())
    assert sum(p.requires_grad for p in peft.parameters()) == len(pairs) == len(trainable(model))
    return model, peft, pairs


def upright(ours: Mapping[str, mx.array]) -> dict[str, np.ndarray]:
    """A and B as PEFT has them."""
    return {name: np.array(x).T if "lora" in name else np.array(x) for name, x in ours.items()}


@pytest.mark.parametrize("case", FORMS)
def test_loss_and_every_gradient_are_those_of_peft(case: str) -> None:
    model, peft, pairs = pair(case)
    given = batch(*lessons(case))
    loss = mean_loss(peft, given)
    loss.backward()
    ours, count, gradients = loss_and_gradients(model, given)
    assert float(ours) / count == pytest.approx(loss.item(), rel=0, abs=5e-6)
    theirs = {name: twin.grad.numpy() for name, twin in pairs.items() if twin.grad is not None}
    assert_close(upright({name: gradient / count for name, gradient in gradients.items()}), theirs, 1e-5)


@pytest.mark.parametrize("name", OPTIONS)
def test_adapters_and_projector_after_five_steps_are_those_of_peft(name: str) -> None:
    model, peft, pairs = pair("plain")
    given, optimizer = batch(*lessons()), AdamW(model, OPTIONS[name])
    for step in range(5):
        train_step(model, optimizer, [given], SCHEDULE(step))
    assert_same_steps(upright(trainable(model)), pairs, OPTIONS[name], lambda: mean_loss(peft, given))


def test_a_new_adapter_begins_as_peft_begins_it() -> None:
    model = tiny()
    attach(model, Lora(rank=16, alpha=16.0, dropout=0.0))
    pattern = r"model\.language_model\.layers\.\d+\..*_proj"
    peft = get_peft_model(build(CASES["plain"], TEXT_SCALE), LoraConfig(r=16, lora_alpha=16, target_modules=pattern))  # pyright: ignore
    train_only(model, "adapters")
    for name, twin in twins(model, peft).items():
        ours, theirs = np.array(trainable(model)[name]), twin.detach().numpy()
        assert ours.shape == theirs.T.shape
        assert abs(ours).max() == pytest.approx(abs(theirs).max(), rel=0.05)  # uniform: 1024 draws reach its edge
        assert ours.std() == pytest.approx(theirs.std(), rel=0.1)
    assert float(answer_loss(model, batch(*lessons()))[0]) == float(answer_loss(tiny(), batch(*lessons()))[0])
