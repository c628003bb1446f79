"""LoRA adapters on the language model. Packed layers below them stay packed: then it is QLoRA."""

from dataclasses import dataclass
from typing import Any

import mlx.nn as nn
from mlx.utils import tree_unflatten

from mlx_llava.errors import UsageError
from mlx_llava.models.llava import Llava

# The linear layers of a Vicuna block, all of them, as LLaVA's find_all_linear_names finds (llava/train/train.py).
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
    """The form of the adapters: y + alpha / rank · dropout(x) A B."""

    rank: int = 128
    """Rank of each adapter."""
    alpha: float = 256.0
    """Adapters count alpha / rank times."""
    dropout: float = 0.05
    """Share of an adapter's inputs that is dropped in training."""

    @property
    def scale(self) -> float:
        """The factor on what adapters add."""
        return self.alpha / self.rank


def attach(model: Llava, lora: Lora) -> None:
    """Put an adapter on every linear layer of every block; it adds nothing until it is trained, for B is zero.

    A is uniform within ±1/√inputs, as PEFT has it, drawn from MLX's global random state.
    """
    from mlx_lm.tuner.lora import LoRALinear  # late: it imports transformers

    layers = {
        path: LoRALinear.from_base(layer, lora.rank, lora.dropout, lora.scale)  # pyright: ignore
        for path, layer in adaptable(model).items()
    }
    model.update_modules(tree_unflatten(list(layers.items())))
    model.train(model.training)  # new modules train: their dropout would go on in answers


def adaptable(model: Llava) -> dict[str, nn.Linear | nn.QuantizedLinear]:
    """The layers that take an adapter, by their full paths; UsageError where they have one already."""
    found = {}
    for n, block in enumerate(model.language_model.layers):
        modules = dict(block.named_modules())
        for name in LAYERS:
            layer = modules[name]
            if not isinstance(layer, nn.Linear | nn.QuantizedLinear):
                raise UsageError("the model has adapters already", "Merge them before adding others.")
            found[f"language_model.layers.{n}.{name}"] = layer
    return found


def attached(model: Llava) -> dict[str, Any]:
    """The layers that have an adapter, by their full paths."""
    return {path: module for path, module in model.named_modules() if "lora_a" in module}
