"""Vision towers: CLIPVisionConfig, published towers, and which hidden states LLaVA uses."""

from dataclasses import replace
from typing import Any

from mlx_llava.checkpoint.config_json.keys import MAX_LAYERS, finish
from mlx_llava.checkpoint.strict_json import Section
from mlx_llava.config import VisionConfig

ACTS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
# The published towers of original LLaVA checkpoints, whose configs hold only the name of a tower.
_CLIP_LARGE = VisionConfig(1024, 4096, 24, 16, 224, 14, "quick_gelu", 1e-5)
TOWERS = {
    "openai/clip-vit-large-patch14": _CLIP_LARGE,
    "openai/clip-vit-large-patch14-336": replace(_CLIP_LARGE, image_size=336),
}


def vision_from_hf(values: dict[str, Any]) -> VisionConfig:
    """The vision tower in the config of a CLIP checkpoint, or of its tower alone."""
    top = Section(values, "config.json of the vision tower")
    if top.choice("model_type", None, ("clip", "clip_vision_model")) == "clip_vision_model":
        return vision_section(top)
    # files older than transformers 4.30 hold the section twice; the short one takes precedence
    both = top.section("vision_config").values | top.section("vision_config_dict").values
    return vision_section(Section(both, f"{top.where}.vision_config"))


def vision_section(keys: Section) -> VisionConfig:
    """CLIPVisionConfig."""
    keys.only("model_type", "clip_vision_model")
    keys.only("num_channels", 3)
    config = VisionConfig(
        hidden_size=keys.integer("hidden_size", 768, 1, 2**16),
        intermediate_size=keys.integer("intermediate_size", 3072, 1, 2**18),
        num_hidden_layers=keys.integer("num_hidden_layers", 12, 1, MAX_LAYERS),
        num_attention_heads=keys.integer("num_attention_heads", 12, 1, 1024),
        image_size=keys.integer("image_size", 224, 1, 4096),
        patch_size=keys.integer("patch_size", 32, 1, 4096),
        hidden_act=keys.choice("hidden_act", "quick_gelu", ACTS),
        layer_norm_eps=keys.number("layer_norm_eps", 1e-5, 0.0, 1.0),
    )
    if config.hidden_size % config.num_attention_heads:
        raise keys.error("num_attention_heads", config.num_attention_heads, "a divisor of hidden_size")
    if config.patch_size > config.image_size:
        raise keys.error("patch_size", config.patch_size, "at most image_size")
    finish(keys, {"vocab_size", "tie_word_embeddings"})
    return config


def feature_layers(keys: Section, key: str, default: int | None, vision: VisionConfig) -> tuple[int, ...]:
    """Indices into the tower's hidden states: 0 is the embedding, the last one the output of the final block."""
    return keys.integers(key, default, -vision.num_hidden_layers - 1, vision.num_hidden_layers)
