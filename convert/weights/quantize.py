"""Which layers are quantized, and into how many bits."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field

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


@dataclass(frozen=True)
class Choice:
    """How each layer is quantized, and the row lengths of layers that should be and cannot."""

    table: Mapping[str, Quantization] = field(default_factory=dict)
    left_out: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """How many layers are quantized, and how."""
        if not self.table:
            return "not quantized"
        all_layers = f" of {len(self.table) + len(self.left_out)}" if self.left_out else ""
        forms = sorted({f"{q.bits} bits {q.mode}, groups of {q.group_size}" for q in self.table.values()})
        return f"{len(self.table)}{all_layers} layers quantized: {'; '.join(forms)}"

    def notes(self) -> Iterator[str]:
        """Why some layers are not quantized, and the flag that would quantize more of them."""
        if self.table and self.left_out:
            quantization = next(iter(self.table.values()))
            advice = _other_group(self.left_out.values(), quantization)
            problem = _does_not_divide(self.left_out.values(), quantization.group_size)
            yield f"note: {len(self.left_out)} layers are not quantized: {problem}; {advice}"


def choose(model: Llava, options: QuantizeOptions) -> Choice:
    """How each layer is quantized: the language model's, with --q-tower also the vision tower's and the projector's.

    A layer whose rows do not divide into groups is left out; UsageError if that leaves none.
    """
    if not options.quantize:
        return Choice()
    uniform = check_flags(options)
    decide = _recipe(options.q_recipe, model, uniform.group_size) if options.q_recipe else lambda path, layer: uniform
    table, left_out = {}, {}
    for path, layer in sorted(quantizable(model).items()):
        if options.q_tower or path.startswith(TEXT):
            quantization, width = decide(path, layer), layer.weight.shape[-1]
            if width % quantization.group_size == 0:
                table[path] = quantization
            else:
                left_out[path] = width
    if not table:
        problem = _does_not_divide(left_out.values(), uniform.group_size)
        advice = _other_group(left_out.values(), uniform)
        raise UsageError(f"-q quantizes none of the {len(left_out)} layers: {problem}", f"{advice.capitalize()}.")
    return Choice(table, left_out)


def _does_not_divide(widths: Collection[int], group_size: int) -> str:
    lengths = sorted(set(widths))
    listed = " and ".join(filter(None, [", ".join(map(str, lengths[:-1])), str(lengths[-1])]))
    return f"rows of {listed} do not divide into groups of {group_size}"


def _other_group(widths: Collection[int], quantization: Quantization) -> str:
    """Advice: the largest group size of the mode that fits the most layers."""
    groups, _ = MODES[quantization.mode]
    fitting = {group: sum(width % group == 0 for width in widths) for group in groups}
    best = max(fitting, key=lambda group: (fitting[group], group))
    if not fitting[best]:
        return f"no group size of {quantization.mode} fits"
    return f"use --q-group-size {best}"


def _recipe(name: str, model: Llava, group_size: int) -> LayerQuantization:
    """Mixed bits by mlx-lm's own rule; layers outside the language model get the bits of its head."""
    from mlx_lm.convert import mixed_quant_predicate_builder

    decide = mixed_quant_predicate_builder(name, model.language_model, group_size)

    def quantization(path: str, layer: nn.Module) -> Quantization:
        inside = path.removeprefix(TEXT) if path.startswith(TEXT) else "lm_head"
        return Quantization(**decide(inside, layer))  # pyright: ignore

    return quantization
