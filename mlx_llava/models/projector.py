"""From vision features to the text model's width: linear in LLaVA v1, two layers in LLaVA-1.5."""

import mlx.core as mx
import mlx.nn as nn

from mlx_llava.models.activations import ACTIVATIONS


class Projector(nn.Module):
    """`depth` linear layers with an activation between them, named `linear_1`, `linear_2`, … as in llava-hf."""

    def __init__(self, width_in: int, width_out: int, depth: int, activation: str, bias: bool) -> None:
        super().__init__()
        self.depth = depth
        self.activation = ACTIVATIONS[activation]
        for n in range(1, depth + 1):
            self[f"linear_{n}"] = nn.Linear(width_in if n == 1 else width_out, width_out, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        x = self["linear_1"](x)
        for n in range(2, self.depth + 1):
            x = self[f"linear_{n}"](self.activation(x))
        return x
