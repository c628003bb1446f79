"""From vision features to the text model's width: linear in LLaVA v1, two layers in LLaVA-1.5."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.models.functions import ACTIVATIONS


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


def random_parameters(projector: Projector, key: mx.array) -> dict[str, mx.array]:
    """New weights and biases by name, uniform within ±1/√inputs, as torch's nn.Linear initializes them."""
    flat: list[tuple[str, mx.array]] = tree_flatten(projector.parameters())  # pyright: ignore
    shapes = {name: x.shape for name, x in sorted(flat)}
    arrays = {}
    for (name, shape), one_key in zip(shapes.items(), mx.random.split(key, len(shapes)), strict=True):
        inputs = shapes[f"{name.rpartition('.')[0]}.weight"][1]
        arrays[name] = mx.random.uniform(-(inputs**-0.5), inputs**-0.5, shape, key=one_key)
    return arrays


def reinitialize(projector: Projector, seed: int) -> None:
    """Give the projector new random weights, the same for the same seed."""
    arrays, dtype = random_parameters(projector, mx.random.key(seed)), projector["linear_1"].weight.dtype
    projector.load_weights([(name, array.astype(dtype)) for name, array in arrays.items()])
