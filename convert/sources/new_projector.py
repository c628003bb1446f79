"""A LLaVA that has not been trained yet: a text model, a vision tower, and a projector drawn afresh.

What stage 1 starts from. Weights and biases are uniform within ±1/√inputs, as torch.nn.Linear begins.
"""

from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint.coverage import parameter_forms
from mlx_llava.checkpoint.strict_json import short
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.weights.algebra import Held, Weight
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.models.llava import Llava

MODEL_TYPES = {"llama": "llava_llama", "mistral": "llava_mistral"}


def joined(values: dict[str, Any], tower: str | None, projector: str) -> dict[str, Any]:
    """The config.json of a text model as original LLaVA would have it."""
    if values.get("model_type") not in MODEL_TYPES or "mm_projector_type" in values:
        raise ConversionError(
            f"--new-projector on model_type {short(values.get('model_type'))}: not a text model of its own",
            "Name a Vicuna, LLaMA or Mistral checkpoint.",
        )
    if tower is None:
        raise UsageError("--new-projector without --vision-tower", "Name the folder or repository of a CLIP.")
    return {
        **values,
        "model_type": MODEL_TYPES[values["model_type"]],
        "mm_vision_tower": tower,
        "mm_projector_type": projector,
        "mm_vision_select_layer": -2,
        "mm_vision_select_feature": "patch",
    }


def draw(config: LlavaConfig, seed: int) -> dict[str, Weight]:
    """The projector's weights, the same for the same seed."""
    forms = parameter_forms(Llava(config))
    shapes = {name: shape for name, (shape, _) in sorted(forms.items()) if name.startswith("projector.")}
    drawn: dict[str, Weight] = {}
    for (name, shape), key in zip(shapes.items(), mx.random.split(mx.random.key(seed), len(shapes)), strict=True):
        inputs = shapes[f"{name.rpartition('.')[0]}.weight"][1]
        drawn[name] = Held(name, mx.random.uniform(-(inputs**-0.5), inputs**-0.5, shape, key=key))
    return drawn
