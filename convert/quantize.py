"""Which layers are packed, and into how many bits."""

from collections.abc import Callable, Mapping

import mlx.nn as nn

from mlx_llava.checkpoint import QUANTIZATIONS, Quantization
from mlx_llava.errors import ConversionError
from mlx_llava.models.llava import Llava

# Group size and bits where none are given: mlx.nn's own defaults.
DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
RECIPES = ("mixed_2_6", "mixed_3_4", "mixed_3_6", "mixed_4_6")  # of mlx-lm


def uniform(mode: str, group_size: int | None, bits: int | None) -> Quantization:
    """One setting for every layer; ConversionError where the mode has no such group size or bits."""
    groups, all_bits = QUANTIZATIONS[mode]
    settings = Quantization(group_size or DEFAULTS[mode][0], bits or DEFAULTS[mode][1], mode)
    for flag, value, allowed in (
        ("--q-group-size", settings.group_size, groups),
        ("--q-bits", settings.bits, all_bits),
    ):
        if value not in allowed:
            raise ConversionError(
                f"{flag} {value}: {mode} has {', '.join(map(str, allowed))}",
                f"Use one of these, or leave {flag} out.",
            )
    return settings


def recipe(name: str, model: Llava, group_size: int) -> Callable[[str, nn.Module], Quantization]:
    """Mixed bits for the language model, decided by mlx-lm's own rule."""
    from mlx_lm.convert import mixed_quant_predicate_builder

    decide = mixed_quant_predicate_builder(name, model.language_model, group_size)

    def settings(path: str, module: nn.Module) -> Quantization:
        inside = path.removeprefix("language_model.")
        answer = decide(inside, module)
        return Quantization(**answer) if isinstance(answer, dict) else uniform("affine", group_size, None)

    return settings


def choose(model: Llava, settings: Callable[[str, nn.Module], Quantization], tower: bool) -> Mapping[str, Quantization]:
    """How each layer is packed: the language model, with `tower` also the vision tower and the projector.

    A layer whose rows do not divide into groups stays as it is.
    """
    chosen = {}
    for path, module in model.named_modules():
        if not isinstance(module, nn.Linear | nn.Embedding) or path.endswith("position_embedding"):
            continue
        if not (tower or path.startswith("language_model.")):
            continue
        packed = settings(path, module)
        if module.weight.shape[-1] % packed.group_size == 0:
            chosen[path] = packed
    return dict(sorted(chosen.items()))
