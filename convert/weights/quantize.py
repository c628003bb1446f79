"""Which layers are quantized, and into how many bits."""

from collections.abc import Callable, Mapping

import mlx.nn as nn

from mlx_llava.checkpoint.quantization import MODES, Quantization, quantizable
from mlx_llava.convert.options import QuantizeOptions
from mlx_llava.errors import UsageError
from mlx_llava.models.llava import Llava

# Group size and bits by default: those of mlx.nn.
DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}
TEXT = "language_model."

LayerQuantization = Callable[[str, nn.Module], Quantization]  # of the layer at a path


def check_flags(options: QuantizeOptions) -> Quantization:
    """The quantization that the flags name, apart from a recipe; UsageError if they do not fit together."""
    numbers = [options.q_bits, options.q_group_size, options.q_recipe, options.q_tower or None]
    if not options.quantize and (any(value is not None for value in numbers) or options.q_mode != "affine"):
        raise UsageError("quantization flags without -q", "Add -q to quantize.")
    if options.q_recipe and options.q_bits is not None:
        raise UsageError("--q-bits and --q-recipe exclude each other", "Leave one out.")
    if options.q_recipe and options.q_mode != "affine":
        raise UsageError(f"--q-recipe is affine, not {options.q_mode}", "Leave --q-mode out.")
    (group_size, bits), (groups, all_bits) = DEFAULTS[options.q_mode], MODES[options.q_mode]
    flags = ("--q-group-size", options.q_group_size, groups), ("--q-bits", options.q_bits, all_bits)
    for flag, value, allowed in flags:
        if value is not None and value not in allowed:
            problem = f"{flag} {value}: {options.q_mode} has {', '.join(map(str, allowed))}"
            raise UsageError(problem, f"Use one of these, or leave {flag} out.")
    return Quantization(options.q_group_size or group_size, options.q_bits or bits, options.q_mode)


def choose(model: Llava, options: QuantizeOptions) -> Mapping[str, Quantization]:
    """How each layer is quantized: the language model's, with --q-tower also the vision tower's and the projector's.

    A layer whose rows do not divide into groups is not quantized.
    """
    if not options.quantize:
        return {}
    uniform = check_flags(options)
    decide = _recipe(options.q_recipe, model, uniform.group_size) if options.q_recipe else lambda path, layer: uniform
    quantized = {}
    for path, layer in sorted(quantizable(model).items()):
        if options.q_tower or path.startswith(TEXT):
            quantization = decide(path, layer)
            if layer.weight.shape[-1] % quantization.group_size == 0:
                quantized[path] = quantization
    return quantized


def _recipe(name: str, model: Llava, group_size: int) -> LayerQuantization:
    """Mixed bits by mlx-lm's own rule; layers outside the language model get the bits of its head."""
    from mlx_lm.convert import mixed_quant_predicate_builder

    decide = mixed_quant_predicate_builder(name, model.language_model, group_size)

    def quantization(path: str, layer: nn.Module) -> Quantization:
        inside = path.removeprefix(TEXT) if path.startswith(TEXT) else "lm_head"
        return Quantization(**decide(inside, layer))  # pyright: ignore

    return quantization
