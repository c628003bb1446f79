"""A LLaVA before stage 1: a text model, a vision tower, and a new random projector."""

from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint.strict_json import short
from mlx_llava.config import LlavaConfig
from mlx_llava.convert.weights.algebra import InMemory, Weight
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.models.llava import Llava
from mlx_llava.models.projector import random_parameters

MODEL_TYPES = {"llama": "llava_llama", "mistral": "llava_mistral"}


def joined(values: dict[str, Any], tower: str | None, projector: str) -> dict[str, Any]:
    """The config.json of a text model as original LLaVA would write it."""
    if values.get("model_type") not in MODEL_TYPES or "mm_projector_type" in values:
        problem = f"--new-projector on model_type {short(values.get('model_type'))}: not a text model of its own"
        raise ConversionError(problem, "Name a Vicuna, LLaMA or Mistral checkpoint.")
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


def random_projector(config: LlavaConfig, seed: int) -> dict[str, Weight]:
    """The projector's weights, the same for the same seed."""
    arrays = random_parameters(Llava(config).projector, mx.random.key(seed))
    return {f"projector.{name}": InMemory(name, array) for name, array in arrays.items()}
