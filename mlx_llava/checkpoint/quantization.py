"""Which layers of a model are quantized and how: the table in a converted folder's config."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.nn as nn

from mlx_llava.checkpoint.strict_json import Section, short
from mlx_llava.errors import ConfigError

# Group sizes and bits that mx.quantize takes, by mode.
MODES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "affine": ((32, 64, 128), (2, 3, 4, 5, 6, 8)),
    "mxfp4": ((32,), (4,)),
    "nvfp4": ((16,), (4,)),
    "mxfp8": ((32,), (8,)),
}


@dataclass(frozen=True)
class Quantization:
    """How the weight of one layer is quantized."""

    group_size: int
    bits: int
    mode: str


def read_quantization(values: object) -> dict[str, Quantization]:
    """The table `path of a layer -> how it is quantized` of a converted folder's config."""
    table = Section(values, "config.json.quantization")
    quantized = {}
    for path in table.values:
        entry = table.section(path)
        mode = entry.choice("mode", None, tuple(MODES))
        groups, bits = MODES[mode]
        entry.only("group_size", *groups)
        entry.only("bits", *bits)
        group_size = entry.integer("group_size", None, 1, 128)
        quantized[path] = Quantization(group_size, entry.integer("bits", None, 1, 8), mode)
        entry.finish()
    return quantized


def quantizable(model: nn.Module) -> dict[str, nn.Linear | nn.Embedding]:
    """The layers whose weight can be quantized, by path; position embeddings are added as a whole, so they cannot."""
    return {
        path: layer
        for path, layer in model.named_modules()
        if isinstance(layer, nn.Linear | nn.Embedding) and not path.endswith("position_embedding")
    }


def quantize_layers(model: nn.Module, quantized: Mapping[str, Quantization]) -> None:
    """Replace layers of an unevaluated model by quantized ones; ConfigError if one of them cannot be quantized."""
    layers = quantizable(model)
    for path, quantization in quantized.items():
        if path not in layers or layers[path].weight.shape[-1] % quantization.group_size:
            raise ConfigError(
                f"config.json.quantization: {short(path)} cannot be quantized in groups of {quantization.group_size}",
                "The table does not belong to this model; convert the checkpoint again.",
            )
    nn.quantize(model, class_predicate=lambda path, _: vars(quantized[path]) if path in quantized else False)
