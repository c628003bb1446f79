"""Small LLaVAs from `spine` and batches with answers in them, for the tests of training."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray
from spine import CASES, prompts, released_name, weights

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.coverage import parameter_forms
from mlx_llava.inputs import Batch, Example, collate
from mlx_llava.models import backend
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import Lora, attach
from mlx_llava.training.optimizer import trainable
from mlx_llava.training.step import train_only

TEXT_SCALE = 0.1  # of weights: with 0.2 gradients of torch and ours differ by up to 9.9e-6, with 0.1 by 3.4e-6
LORA = Lora(rank=4, alpha=8.0, dropout=0.0)


def tiny(case: str = "plain") -> Llava:
    """The model of a case, ready to train."""
    config = from_hf(CASES[case].config())
    model, values = Llava(config), weights(config, TEXT_SCALE)
    loaded = []
    for name in parameter_forms(model):
        value = values[released_name(name)]
        loaded.append((name, mx.array(value.transpose(0, 2, 3, 1) if value.ndim == 4 else value)))
    model.load_weights(loaded)
    backend.adapt_to_device(model)
    mx.eval(model.parameters())
    return model


def lessons(case: str = "plain") -> list[Example]:
    """The prompts of `spine`, with an answer in the middle of each and one at its end."""
    examples = []
    for example in prompts(from_hf(CASES[case].config()).rows_per_crop).values():
        mask = np.zeros(len(example.tokens), bool)
        mask[2:4] = mask[-3:] = True
        examples.append(replace(example, label_mask=mask & (example.slots < 0)))
    return examples


def batch(*examples: Example) -> Batch:
    """Examples as one batch."""
    return collate(examples)


def adapted(model: Llava, lora: Lora = LORA) -> Llava:
    """The model with adapters that do something already."""
    mx.random.seed(3)
    attach(model, lora)
    train_only(model, "adapters", "projector")
    moved = {name: 0.05 * mx.random.normal(x.shape) for name, x in trainable(model).items() if name.endswith("lora_b")}
    model.load_weights(list(moved.items()), strict=False)
    return model


def values(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Every parameter, trained or not."""
    return {name: np.array(value) for name, value in tree_flatten(model.parameters())}  # pyright: ignore
