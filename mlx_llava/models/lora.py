"""LoRA adapters on the language model; with quantized layers below them it is QLoRA."""

from dataclasses import dataclass
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_llava.errors import UsageError
from mlx_llava.models.llava import Llava
from mlx_llava.models.mlx_lm_parts import LoRALinear

# All linear layers of a block, as in LLaVA's find_all_linear_names (llava/train/train.py).
LAYERS = (
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
)


@dataclass(frozen=True)
class Lora:
    """Hyperparameters of the adapters: y + alpha / rank · dropout(x) A B."""

    rank: int = 128
    alpha: float = 256.0
    """Adapter outputs are scaled by alpha / rank."""
    dropout: float = 0.05
    """Dropout on adapter inputs during training."""

    @property
    def scale(self) -> float:
        """The factor on adapter outputs."""
        return self.alpha / self.rank


def attach(model: Llava, lora: Lora) -> None:
    """Put an adapter on every linear layer of every block; B is zero, so the output is unchanged until training.

    A is uniform in ±1/√inputs as in PEFT, drawn from MLX's global random state.
    """
    layers = {
        path: LoRALinear.from_base(layer, lora.rank, lora.dropout, lora.scale)  # pyright: ignore
        for path, layer in adaptable(model).items()
    }
    model.update_modules(tree_unflatten(list(layers.items())))
    model.train(model.training)  # new modules are in training mode: dropout would be active in answers


def adaptable(model: Llava) -> dict[str, nn.Linear | nn.QuantizedLinear]:
    """The layers that take an adapter, by full path; UsageError if they have one already."""
    layers = {}
    for n, block in enumerate(model.language_model.layers):
        modules = dict(block.named_modules())
        for name in LAYERS:
            layer = modules[name]
            if not isinstance(layer, nn.Linear | nn.QuantizedLinear):
                raise UsageError("the model has adapters already", "Merge them before adding others.")
            layers[f"language_model.layers.{n}.{name}"] = layer
    return layers


def attached(model: Llava) -> dict[str, Any]:
    """The layers with an adapter, by full path."""
    return {path: module for path, module in model.named_modules() if "lora_a" in module}
