"""Text models: LlamaConfig and MistralConfig."""

from dataclasses import dataclass, fields, replace

from mlx_llava.checkpoint.config_json.keys import MAX_LAYERS
from mlx_llava.checkpoint.strict_json import Section
from mlx_llava.config import RopeConfig, TextConfig


@dataclass(frozen=True)
class Defaults:
    """The values of missing keys."""

    intermediate_size: int
    num_key_value_heads: int | None  # None: as many as query heads
    max_position_embeddings: int
    sliding_window: int | None


# LlamaConfig and MistralConfig of transformers 5.23.
DEFAULTS = {"llama": Defaults(11008, None, 2048, None), "mistral": Defaults(14336, 8, 131072, 4096)}
ROPE_KEYS = {
    "default": ("rope_type", "rope_theta"),
    "linear": ("rope_type", "rope_theta", "factor"),
    "llama3": tuple(field.name for field in fields(RopeConfig)),
}


def text_section(keys: Section, kind: str) -> TextConfig:
    """A text model of this kind; the caller reads the rest of the section and finishes it."""
    defaults = DEFAULTS[kind]
    heads = keys.integer("num_attention_heads", 32, 1, 1024)
    hidden = keys.integer("hidden_size", 4096, 1, 2**16)
    if "head_dim" not in keys and hidden % heads:
        raise keys.error("num_attention_heads", heads, "a divisor of hidden_size")
    positions = keys.integer("max_position_embeddings", defaults.max_position_embeddings, 1, 2**24)
    config = TextConfig(
        model_type=kind,
        vocab_size=keys.integer("vocab_size", 32000, 1, 2**22),
        hidden_size=hidden,
        intermediate_size=keys.integer("intermediate_size", defaults.intermediate_size, 1, 2**18),
        num_hidden_layers=keys.integer("num_hidden_layers", 32, 1, MAX_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=keys.integer("num_key_value_heads", defaults.num_key_value_heads or heads, 1, heads),
        head_dim=keys.integer("head_dim", hidden // heads, 2, 4096),
        max_position_embeddings=positions,
        rms_norm_eps=keys.number("rms_norm_eps", 1e-6, 0.0, 1.0),
        attention_bias=keys.flag("attention_bias", False),
        mlp_bias=keys.flag("mlp_bias", False),
        sliding_window=_window(keys, defaults.sliding_window),
        tie_word_embeddings=keys.flag("tie_word_embeddings", False),
        rope=_rope(keys, positions),
    )
    if heads % config.num_key_value_heads:
        raise keys.error("num_key_value_heads", config.num_key_value_heads, "a divisor of num_attention_heads")
    if config.head_dim % 2:
        raise keys.error("head_dim", config.head_dim, "even")
    if kind == "mistral":
        keys.only("attention_bias", False)
        keys.only("mlp_bias", False)
    keys.only("hidden_act", "silu")
    keys.get("eos_token_id")  # read by the caller
    return config


def _window(keys: Section, default: int | None) -> int | None:
    """A null window means none, a missing one the default; Llama has none."""
    if default is None or keys.values.get("sliding_window", default) is None:
        return None
    return keys.integer("sliding_window", default, 1, 2**24)


def _rope(keys: Section, positions: int) -> RopeConfig:
    """`rope_theta` and `rope_scaling` of old files, or `rope_parameters` of transformers 5."""
    theta = keys.number("rope_theta", 10000.0, 1, 1e12)
    rope = keys.section("rope_parameters")
    if rope.values:
        keys.only("rope_scaling", {}, rope.values)
    else:
        rope = keys.section("rope_scaling")
    kind = rope.choice("rope_type" if "rope_type" in rope else "type", "default", tuple(ROPE_KEYS))
    rope.only("type", kind)
    rope.only("partial_rotary_factor", 1.0)
    config = RopeConfig(kind, rope.number("rope_theta", theta, 1, 1e12))
    if kind != "default":
        config = replace(config, factor=rope.number("factor", None, 1.0, 1e6))
    if kind == "llama3":
        low = rope.number("low_freq_factor", None, 1e-6, 1e6)
        config = replace(
            config,
            low_freq_factor=low,
            high_freq_factor=rope.number("high_freq_factor", None, low * 1.001, 1e9),  # a blend needs a distance
            original_max_position_embeddings=rope.integer("original_max_position_embeddings", positions, 1, 2**24),
        )
    rope.finish()
    return config
