"""The dialects of config.json: original LLaVA (`mm_*` keys at the top) and llava-hf, old and v5 spelling.

Keys left out stand at the defaults of transformers' config classes. A key that may change an answer and is
not implemented is an error, never ignored. A converted folder's config is llava-hf plus `mlx_llava`.
"""

import re
from collections.abc import Collection
from dataclasses import asdict, fields, replace
from typing import Any, Literal

from mlx_llava.checkpoint.strict_json import Section, short
from mlx_llava.config import ImageConfig, LlavaConfig, RopeConfig, TextConfig, VisionConfig
from mlx_llava.errors import ConfigError

FORMAT = 1  # of converted folders: config.json["mlx_llava"]["format"]
MAX_LAYERS = 512  # LLaMA 405B has 126

# The published towers of original LLaVA checkpoints, whose configs name a tower and nothing more.
_CLIP_LARGE = VisionConfig(1024, 4096, 24, 16, 224, 14, "quick_gelu", 1e-5)
TOWERS = {
    "openai/clip-vit-large-patch14": _CLIP_LARGE,
    "openai/clip-vit-large-patch14-336": replace(_CLIP_LARGE, image_size=336),
}

# LlamaConfig and MistralConfig of transformers 5.23: what a key means when it is absent.
_TEXT_DEFAULTS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate": 11008, "kv": None, "positions": 2048, "window": None},
    "mistral": {"intermediate": 14336, "kv": 8, "positions": 131072, "window": 4096},
}
ROPE_KEYS = {
    "default": ("rope_type", "rope_theta"),
    "linear": ("rope_type", "rope_theta", "factor"),
    "llama3": tuple(field.name for field in fields(RopeConfig)),
}
VISION_ACTS = ("quick_gelu", "gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
PROJECTOR_ACTS = ("gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu")

# Keys that cannot change a forward pass: training, bookkeeping, and generation defaults that old files carry.
HARMLESS = frozenset(
    """
    is_composition type_vocab_size
    dtype torch_dtype _name_or_path _commit_hash _attn_implementation _attn_implementation_autoset
    architectures transformers_version torchscript use_cache initializer_range initializer_factor pretraining_tp
    bos_token_id pad_token_id sep_token_id cls_token_id unk_token_id mask_token_id decoder_start_token_id
    ignore_index image_seq_length projection_dim return_dict output_attentions output_hidden_states
    use_bfloat16 tf_legacy_loss chunk_size_feed_forward diversity_penalty do_sample early_stopping
    finetuning_task id2label label2id is_decoder length_penalty max_length min_length num_beam_groups num_beams
    num_return_sequences output_scores prefix problem_type remove_invalid_values repetition_penalty
    return_dict_in_generate task_specific_params temperature tie_encoder_decoder tokenizer_class top_k top_p
    typical_p dropout attention_dropout gradient_checkpointing
    """.split()
)
# How an original LLaVA was trained. Its tokenizer may hold `<im_patch>`; no prompt of ours does.
TRAINING = frozenset(
    """
    tune_mm_mlp_adapter freeze_mm_mlp_adapter pretrain_mm_mlp_adapter mm_projector_lr use_mm_proj
    tune_mm_vision_resampler freeze_mm_vision_resampler unfreeze_mm_vision_tower mm_vision_tower_lr
    tokenizer_padding_side tokenizer_model_max_length max_sequence_length mm_use_im_patch_token
    """.split()
)
# Keys that ask for nothing at these values, which old files spell out.
NEUTRAL: dict[str, object] = {
    "pruned_heads": {},
    "add_cross_attention": False,
    "is_encoder_decoder": False,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "partial_rotary_factor": 1.0,
}
# Code that a checkpoint would like to run. It is never opened.
CODE_KEYS = ("auto_map", "model_file", "custom_pipelines", "trust_remote_code")


def from_hf(values: dict[str, Any], vision: VisionConfig | None = None) -> LlavaConfig:
    """The config in a checkpoint's config.json; `vision` is that of a tower kept in another folder.

    Raises ConfigError for a key out of range, unknown, or not implemented.
    """
    top = Section(values, "config.json")
    for key in CODE_KEYS:
        top.get(key)
    if "text_config" in top or "vision_config" in top:
        return _from_llava_hf(top)
    if tower_name(values) is not None:
        return _from_original(top, vision)
    raise ConfigError(
        f"config.json: model_type {short(top.get('model_type'))} without text_config or mm_vision_tower: not a LLaVA",
        "Name a LLaVA-1.5 checkpoint such as llava-hf/llava-1.5-7b-hf.",
    )


def tower_name(values: dict[str, Any]) -> object:
    """What an original LLaVA's config calls its tower; None in any other config."""
    name = values.get("mm_vision_tower")
    return values.get("vision_tower") if name is None else name


def to_hf(config: LlavaConfig) -> dict[str, Any]:
    """The config as llava-hf spells it, every key written out, with our additions under `mlx_llava`."""
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


def _from_llava_hf(top: Section) -> LlavaConfig:
    top.must("model_type", "llava")
    # an absent tower is CLIP ViT-L/14 at 336, an empty section CLIPVisionConfig's defaults
    known = TOWERS["openai/clip-vit-large-patch14-336"]
    vision = _vision(top.section("vision_config")) if "vision_config" in top else known
    text_keys = top.section("text_config")
    text = _text(text_keys, text_keys.choice("model_type", "llama", tuple(_TEXT_DEFAULTS)))
    _finish(text_keys)
    if top.flag("tie_word_embeddings", False):
        text = replace(text, tie_word_embeddings=True)
    image_key = "image_token_id" if "image_token_id" in top else "image_token_index"
    config = LlavaConfig(
        vision=vision,
        text=text,
        feature_layers=_feature_layers(top, "vision_feature_layer", -2, vision),
        keep_class_token=top.choice("vision_feature_select_strategy", "default", ("default", "full")) == "full",
        projector_act=top.choice("projector_hidden_act", "gelu", PROJECTOR_ACTS),
        projector_bias=top.flag("multimodal_projector_bias", True),
        image_token_id=top.whole(image_key, 32000, 0, text.vocab_size - 1),
        eos_token_ids=(top if "eos_token_id" in top else text_keys).wholes("eos_token_id", 2, 0, text.vocab_size - 1),
        image=ImageConfig(side=vision.image_size),
        template="vicuna_v1",  # of BakLLaVA too, whose text model is Mistral
    )
    top.must("image_token_index", config.image_token_id)
    top.must("hidden_size", text.hidden_size)
    config = _additions(top, config)
    _finish(top, {"vocab_size"})  # released files repeat it; text_config's is the one that counts
    return config


def _additions(top: Section, config: LlavaConfig) -> LlavaConfig:
    """What a converted folder's config says beyond llava-hf's keys."""
    if "mlx_llava" not in top:
        return config
    top.get("quantization")  # read by checkpoint.py
    ours = top.section("mlx_llava")
    if ours.get("format") != FORMAT:
        raise ConfigError(
            f"config.json: converted by another version (format {short(ours.get('format'))}, not {FORMAT})",
            "Convert the checkpoint again with this version.",
        )
    image = ours.section("picture")
    config = replace(
        config,
        projector_depth=ours.whole("projector_depth", None, 1, 8),
        template=ours.text("template", None),
        restart_after_image=ours.flag("restart_after_image", False),
        image=ImageConfig(
            side=image.whole("side", None, 1, 4096),
            fit="pad" if image.choice("fit", None, ("crop", "pad")) == "pad" else "crop",
            mean=image.three("mean"),
            std=image.three("std"),
        ),
    )
    image.finish()
    ours.finish(("source",))
    return config


def _from_original(top: Section, vision: VisionConfig | None) -> LlavaConfig:
    top.must("model_type", "llava", "llava_llama", "llava_mistral", "llama")
    name = top.text("mm_vision_tower", top.get("vision_tower"))
    vision = vision or TOWERS.get(name)
    if vision is None:
        raise ConfigError(
            f"config.json: mm_vision_tower is {short(name)}, whose config is not in this folder",
            "Give the tower's folder with --vision-tower.",
        )
    model_type = "mistral" if top.get("model_type") == "llava_mistral" else "llama"
    text = _text(top, model_type)
    config = LlavaConfig(
        vision=vision,
        text=text,
        feature_layers=_feature_layers(top, "mm_vision_select_layer", None, vision),
        keep_class_token=top.choice("mm_vision_select_feature", "patch", ("patch", "cls_patch")) == "cls_patch",
        projector_depth=_projector_depth(top),
        eos_token_ids=top.wholes("eos_token_id", 2, 0, text.vocab_size - 1),
        image=ImageConfig(side=vision.image_size, fit=_fit(top)),
        template="mistral_instruct" if model_type == "mistral" else "vicuna_v1",
        restart_after_image=True,
    )
    top.must("mm_hidden_size", vision.hidden_size)
    top.must("mm_use_im_start_end", False)
    top.must("mm_patch_merge_type", "flat")
    top.must("s2", False)
    _finish(top, TRAINING)
    return config


def _fit(top: Section) -> Literal["crop", "pad"]:
    pad = top.choice("image_aspect_ratio", "square", ("square", "pad")) == "pad"
    return "pad" if pad else "crop"


def _projector_depth(top: Section) -> int:
    kind = top.text("mm_projector_type", "linear")
    if kind == "linear":
        return 1
    match = re.fullmatch(r"mlp([1-8])x_gelu", kind)  # mlp2x_gelu: two layers
    if match is None:
        raise top.error("mm_projector_type", kind, "linear or mlpNx_gelu with N from 1 to 8")
    return int(match[1])


def vision_from_hf(values: dict[str, Any]) -> VisionConfig:
    """The vision tower in the config of a CLIP checkpoint, or of its tower alone."""
    top = Section(values, "config.json of the vision tower")
    if top.choice("model_type", None, ("clip", "clip_vision_model")) == "clip_vision_model":
        return _vision(top)
    # files older than transformers 4.30 hold the section twice, the short one goes before
    both = top.section("vision_config").values | top.section("vision_config_dict").values
    return _vision(Section(both, f"{top.where}.vision_config"))


def _vision(keys: Section) -> VisionConfig:
    """CLIPVisionConfig."""
    keys.must("model_type", "clip_vision_model")
    keys.must("num_channels", 3)
    config = VisionConfig(
        hidden_size=keys.whole("hidden_size", 768, 1, 2**16),
        intermediate_size=keys.whole("intermediate_size", 3072, 1, 2**18),
        num_hidden_layers=keys.whole("num_hidden_layers", 12, 1, MAX_LAYERS),
        num_attention_heads=keys.whole("num_attention_heads", 12, 1, 1024),
        image_size=keys.whole("image_size", 224, 1, 4096),
        patch_size=keys.whole("patch_size", 32, 1, 4096),
        hidden_act=keys.choice("hidden_act", "quick_gelu", VISION_ACTS),
        layer_norm_eps=keys.real("layer_norm_eps", 1e-5, 0.0, 1.0),
    )
    if config.hidden_size % config.num_attention_heads:
        raise keys.error("num_attention_heads", config.num_attention_heads, "a divisor of hidden_size")
    if config.patch_size > config.image_size:
        raise keys.error("patch_size", config.patch_size, "at most image_size")
    _finish(keys, {"vocab_size", "tie_word_embeddings"})
    return config


def _text(keys: Section, kind: str) -> TextConfig:
    """LlamaConfig or MistralConfig; the caller reads the rest of the section and finishes it."""
    defaults = _TEXT_DEFAULTS[kind]
    heads = keys.whole("num_attention_heads", 32, 1, 1024)
    hidden = keys.whole("hidden_size", 4096, 1, 2**16)
    if "head_dim" not in keys and hidden % heads:
        raise keys.error("num_attention_heads", heads, "a divisor of hidden_size")
    positions = keys.whole("max_position_embeddings", defaults["positions"], 1, 2**24)
    config = TextConfig(
        model_type=kind,
        vocab_size=keys.whole("vocab_size", 32000, 1, 2**22),
        hidden_size=hidden,
        intermediate_size=keys.whole("intermediate_size", defaults["intermediate"], 1, 2**18),
        num_hidden_layers=keys.whole("num_hidden_layers", 32, 1, MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=keys.whole("num_key_value_heads", defaults["kv"] or heads, 1, heads),
        head_dim=keys.whole("head_dim", hidden // heads, 2, 4096),
        max_position_embeddings=positions,
        rms_norm_eps=keys.real("rms_norm_eps", 1e-6, 0.0, 1.0),
        attention_bias=keys.flag("attention_bias", False),
        mlp_bias=keys.flag("mlp_bias", False),
        sliding_window=_window(keys, defaults["window"]) if kind == "mistral" else None,
        tie_word_embeddings=keys.flag("tie_word_embeddings", False),
        rope=_rope(keys, positions),
    )
    if heads % config.num_key_value_heads:
        raise keys.error("num_key_value_heads", config.num_key_value_heads, "a divisor of num_attention_heads")
    if config.head_dim % 2:
        raise keys.error("head_dim", config.head_dim, "even")
    if kind == "mistral":
        keys.must("attention_bias", False)
        keys.must("mlp_bias", False)
    keys.must("hidden_act", "silu")
    keys.get("eos_token_id")  # read by the caller
    return config


def _window(keys: Section, default: int) -> int | None:
    """A null window means none, an absent one the default."""
    if keys.values.get("sliding_window", default) is None:
        return None
    return keys.whole("sliding_window", default, 1, 2**24)


def _rope(keys: Section, positions: int) -> RopeConfig:
    """`rope_theta` and `rope_scaling` of old files, or `rope_parameters` of transformers 5."""
    theta = keys.real("rope_theta", 10000.0, 1, 1e12)
    rope = keys.section("rope_parameters")
    if rope.values:
        keys.must("rope_scaling", {}, rope.values)
    else:
        rope = keys.section("rope_scaling")
    kind = rope.choice("rope_type" if "rope_type" in rope else "type", "default", tuple(ROPE_KEYS))
    rope.must("type", kind)
    rope.must("partial_rotary_factor", 1.0)
    config = RopeConfig(kind, rope.real("rope_theta", theta, 1, 1e12))
    if kind != "default":
        config = replace(config, factor=rope.real("factor", None, 1.0, 1e6))
    if kind == "llama3":
        low = rope.real("low_freq_factor", None, 1e-6, 1e6)
        config = replace(
            config,
            low_freq_factor=low,
            high_freq_factor=rope.real("high_freq_factor", None, low * 1.001, 1e9),  # a blend needs a distance
            original_max_position_embeddings=rope.whole("original_max_position_embeddings", positions, 1, 2**24),
        )
    rope.finish()
    return config


def _feature_layers(keys: Section, key: str, default: int | None, vision: VisionConfig) -> tuple[int, ...]:
    """Indices into the tower's hidden states: entry 0 is the embedding, the last the final block's output."""
    depth = vision.num_hidden_layers
    return keys.wholes(key, default, -depth - 1, depth)


def _finish(keys: Section, harmless: Collection[str] = ()) -> None:
    """Refuse what is neither read, harmless, nor asking for nothing."""
    for key, nothing in NEUTRAL.items():
        keys.must(key, nothing)
    keys.finish(HARMLESS.union(harmless))
