"""config.json of original LLaVA: the text model's keys at the top, LLaVA's own with `mm_`."""

import re
from typing import Any

from mlx_llava.checkpoint.config_json.keys import finish
from mlx_llava.checkpoint.config_json.text import text_section
from mlx_llava.checkpoint.config_json.towers import TOWERS, feature_layers
from mlx_llava.checkpoint.strict_json import Section, short
from mlx_llava.config import ImageConfig, LlavaConfig, VisionConfig
from mlx_llava.errors import ConfigError

# How an original LLaVA was trained. Its tokenizer may contain `<im_patch>`, our prompts never do.
TRAINING = frozenset(
    """
    tune_mm_mlp_adapter freeze_mm_mlp_adapter pretrain_mm_mlp_adapter mm_projector_lr use_mm_proj
    tune_mm_vision_resampler freeze_mm_vision_resampler unfreeze_mm_vision_tower mm_vision_tower_lr
    tokenizer_padding_side tokenizer_model_max_length max_sequence_length mm_use_im_patch_token
    """.split()
)


def tower_name(values: dict[str, Any]) -> object:
    """The tower named by the config of an original LLaVA; None in any other config."""
    name = values.get("mm_vision_tower")
    return values.get("vision_tower") if name is None else name


def from_original(top: Section, vision: VisionConfig | None) -> LlavaConfig:
    top.only("model_type", "llava", "llava_llama", "llava_mistral", "llama")
    name = top.text("mm_vision_tower", top.get("vision_tower"))
    vision = vision or TOWERS.get(name)
    if vision is None:
        problem = f"config.json: mm_vision_tower is {short(name)}, whose config is not in this folder"
        raise ConfigError(problem, "Give the tower's folder with --vision-tower.")
    model_type = "mistral" if top.get("model_type") == "llava_mistral" else "llama"
    text = text_section(top, model_type)
    fit = "pad" if top.choice("image_aspect_ratio", "square", ("square", "pad")) == "pad" else "crop"
    config = LlavaConfig(
        vision=vision,
        text=text,
        feature_layers=feature_layers(top, "mm_vision_select_layer", None, vision),
        keep_class_token=top.choice("mm_vision_select_feature", "patch", ("patch", "cls_patch")) == "cls_patch",
        projector_depth=_projector_depth(top),
        eos_token_ids=top.integers("eos_token_id", 2, 0, text.vocab_size - 1),
        image=ImageConfig(side=vision.image_size, fit=fit),
        template="mistral_instruct" if model_type == "mistral" else "vicuna_v1",
        restart_after_image=True,
    )
    top.only("mm_hidden_size", vision.hidden_size)
    top.only("mm_use_im_start_end", False)
    top.only("mm_patch_merge_type", "flat")
    top.only("s2", False)
    finish(top, TRAINING)
    return config


def _projector_depth(top: Section) -> int:
    kind = top.text("mm_projector_type", "linear")
    if kind == "linear":
        return 1
    match = re.fullmatch(r"mlp([1-8])x_gelu", kind)  # mlp2x_gelu: two layers
    if match is None:
        raise top.error("mm_projector_type", kind, "linear or mlpNx_gelu with N from 1 to 8")
    return int(match[1])
