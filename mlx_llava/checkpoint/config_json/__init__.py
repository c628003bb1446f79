"""config.json in its dialects: original LLaVA (`mm_*` keys at the top) and llava-hf, in old and v5 spelling.

Missing keys have the defaults of transformers' config classes. A key that may change an answer and is not implemented
is an error, never ignored. A converted folder's config is llava-hf plus `mlx_llava`.
"""

from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.config_json.keys import CODE_KEYS
from mlx_llava.checkpoint.config_json.llava_hf import from_llava_hf, to_hf
from mlx_llava.checkpoint.config_json.original import from_original, tower_name
from mlx_llava.checkpoint.strict_json import Section, short
from mlx_llava.config import LlavaConfig, VisionConfig
from mlx_llava.errors import ConfigError
from mlx_llava.program.text import shorten

__all__ = ["from_hf", "is_llava", "quantized_by", "to_hf"]

# Where quantizers write their settings; MLX writes "quantization" as well.
QUANTIZATION_KEYS = ("quantization", "quantization_config", "compression_config")
QUANTIZATION_FILES = {"quantize_config.json": "GPTQ", "quant_config.json": "AWQ"}
UNQUANTIZED = "Name the unquantized repository that it was made from; -q quantizes it."


def is_llava(values: dict[str, Any]) -> bool:
    """Whether a config.json is that of a LLaVA in either dialect, implemented or not."""
    return tower_name(values) is not None or str(values.get("model_type")).startswith("llava")


def quantized_by(values: dict[str, Any], folder: Path) -> str | None:
    """The program that quantized a checkpoint; None for one that is not quantized."""
    text = values.get("text_config")
    for section in (values, text if isinstance(text, dict) else {}):
        for key in QUANTIZATION_KEYS:
            if settings := section.get(key):
                method = settings.get("quant_method") if isinstance(settings, dict) else None
                return shorten(str(method or ("MLX" if key == "quantization" else "another program")), 40)
    return next((method for file, method in QUANTIZATION_FILES.items() if (folder / file).exists()), None)


def from_hf(values: dict[str, Any], vision: VisionConfig | None = None) -> LlavaConfig:
    """The config in a checkpoint's config.json; `vision` that of a tower in another folder.

    Raises ConfigError for a key that is out of range, unknown or not implemented.
    """
    top = Section(values, "config.json")
    for key in CODE_KEYS:
        top.get(key)
    if "text_config" in top or "vision_config" in top:
        return from_llava_hf(top)
    if tower_name(values) is not None:
        return from_original(top, vision)
    raise ConfigError(
        f"config.json: model_type {short(top.get('model_type'))} without text_config or mm_vision_tower: not a LLaVA",
        "Name a LLaVA-1.5 checkpoint such as llava-hf/llava-1.5-7b-hf.",
    )
