"""config.json of llava-hf, and of a converted folder, which adds the section `mlx_llava`."""

from dataclasses import asdict, replace
from typing import Any

from mlx_llava.checkpoint.config_json.keys import finish
from mlx_llava.checkpoint.config_json.text import DEFAULTS, ROPE_KEYS, text_section
from mlx_llava.checkpoint.config_json.towers import TOWERS, feature_layers, vision_section
from mlx_llava.checkpoint.strict_json import Section, short
from mlx_llava.config import FITS, ImageConfig, LlavaConfig
from mlx_llava.errors import ConfigError

FORMAT = 1  # of converted folders: config.json["mlx_llava"]["format"]
PROJECTOR_ACTS = ("gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu")


def from_llava_hf(top: Section) -> LlavaConfig:
    """The config in a config.json of llava-hf or of a converted folder."""
    top.only("model_type", "llava")
    # a missing tower is CLIP ViT-L/14 at 336, an empty section CLIPVisionConfig's defaults
    default = TOWERS["openai/clip-vit-large-patch14-336"]
    vision = vision_section(top.section("vision_config")) if "vision_config" in top else default
    text_keys = top.section("text_config")
    text = text_section(text_keys, text_keys.choice("model_type", "llama", tuple(DEFAULTS)))
    finish(text_keys)
    if top.flag("tie_word_embeddings", False):
        text = replace(text, tie_word_embeddings=True)
    image_key = "image_token_id" if "image_token_id" in top else "image_token_index"
    config = LlavaConfig(
        vision=vision,
        text=text,
        feature_layers=feature_layers(top, "vision_feature_layer", -2, vision),
        keep_class_token=top.choice("vision_feature_select_strategy", "default", ("default", "full")) == "full",
        projector_act=top.choice("projector_hidden_act", "gelu", PROJECTOR_ACTS),
        projector_bias=top.flag("multimodal_projector_bias", True),
        image_token_id=top.integer(image_key, 32000, 0, text.vocab_size - 1),
        eos_token_ids=(top if "eos_token_id" in top else text_keys).integers("eos_token_id", 2, 0, text.vocab_size - 1),
        image=ImageConfig(side=vision.image_size),
        template="vicuna_v1",  # BakLLaVA too, although its text model is Mistral
    )
    top.only("image_token_index", config.image_token_id)
    top.only("hidden_size", text.hidden_size)
    config = _additions(top, config)
    finish(top, {"vocab_size"})  # released files repeat it; the one in text_config counts
    return config


def to_hf(config: LlavaConfig) -> dict[str, Any]:
    """The config in llava-hf's keys, every one written out, with our additions under `mlx_llava`."""
    layers = config.feature_layers
    rope = config.text.rope
    text = {
        **asdict(config.text),
        "rope_parameters": {key: getattr(rope, key) for key in ROPE_KEYS[rope.rope_type]},
        "eos_token_id": list(config.eos_token_ids),
    }
    del text["rope"]
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": config.image_token_id,
        "projector_hidden_act": config.projector_act,
        "multimodal_projector_bias": config.projector_bias,
        "vision_feature_layer": layers[0] if len(layers) == 1 else list(layers),
        "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
        "tie_word_embeddings": config.text.tie_word_embeddings,
        "text_config": text,
        "vision_config": {"model_type": "clip_vision_model", **asdict(config.vision)},
        "mlx_llava": {
            "format": FORMAT,
            "projector_depth": config.projector_depth,
            "template": config.template,
            "restart_after_image": config.restart_after_image,
            "picture": asdict(config.image),
        },
    }


def _additions(top: Section, config: LlavaConfig) -> LlavaConfig:
    """Add what a converted folder's config holds beyond llava-hf's keys."""
    if "mlx_llava" not in top:
        return config
    top.get("quantization")  # read by checkpoint/quantization.py
    ours = top.section("mlx_llava")
    if ours.get("format") != FORMAT:
        problem = f"config.json: converted by another version (format {short(ours.get('format'))}, not {FORMAT})"
        raise ConfigError(problem, "Convert the checkpoint again with this version.")
    image = ours.section("picture")
    config = replace(
        config,
        projector_depth=ours.integer("projector_depth", None, 1, 8),
        template=ours.text("template", None),
        restart_after_image=ours.flag("restart_after_image", False),
        image=ImageConfig(
            side=image.integer("side", None, 1, 4096),
            fit=image.choice("fit", None, FITS),
            mean=image.triple("mean"),
            std=image.triple("std"),
        ),
    )
    image.finish()
    ours.finish(("source",))
    return config
