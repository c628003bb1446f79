"""config.json in all its dialects: published files resolve to the right model, everything else is refused by name."""

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from published import ANYRES, HF_7B, HF_13B, ORIGINAL_13B, Values

from mlx_llava.checkpoint.config_json import from_hf, to_hf
from mlx_llava.checkpoint.config_json.keys import MAX_LAYERS
from mlx_llava.checkpoint.config_json.llava_hf import PROJECTOR_ACTS
from mlx_llava.checkpoint.config_json.towers import ACTS, TOWERS, vision_from_hf
from mlx_llava.config import CLIP_MEAN, CLIP_STD, ImageConfig, LlavaConfig, RopeConfig, TextConfig, VisionConfig
from mlx_llava.errors import ConfigError

VICUNA_7B = TextConfig(
    model_type="llama",
    vocab_size=32064,
    hidden_size=4096,
    intermediate_size=11008,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
    head_dim=128,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    attention_bias=False,
    mlp_bias=False,
    sliding_window=None,
    tie_word_embeddings=False,
    rope=RopeConfig(),
)
VICUNA_13B = replace(
    VICUNA_7B,
    hidden_size=5120,
    intermediate_size=13824,
    num_hidden_layers=40,
    num_attention_heads=40,
    num_key_value_heads=40,
)
CLIP_336 = VisionConfig(1024, 4096, 24, 16, 336, 14, "quick_gelu", 1e-5)


def test_released_configs_resolve_with_the_defaults_of_transformers() -> None:
    wanted = LlavaConfig(CLIP_336, VICUNA_7B, image_token_id=32000, image=ImageConfig(336, "crop"))
    assert from_hf(HF_7B) == wanted
    assert from_hf(HF_13B) == replace(wanted, text=VICUNA_13B)


def test_an_original_config_means_the_published_tower_and_pads_its_pictures() -> None:
    assert from_hf(ORIGINAL_13B) == LlavaConfig(
        CLIP_336,
        replace(VICUNA_13B, vocab_size=32000),
        image=ImageConfig(336, "pad"),
        restart_after_image=True,
    )


def test_llava_v1_has_a_linear_projector_and_smaller_pictures() -> None:
    old = {key: value for key, value in ORIGINAL_13B.items() if key not in ("mm_projector_type", "mm_vision_tower")}
    config = from_hf({**old, "vision_tower": "openai/clip-vit-large-patch14", "image_aspect_ratio": "square"})
    assert (config.projector_depth, config.image) == (1, ImageConfig(224, "crop"))
    assert config.vision == replace(CLIP_336, image_size=224)


def test_a_mistral_has_the_defaults_of_mistral() -> None:
    config = from_hf({**HF_7B, "text_config": {"model_type": "mistral", "vocab_size": 32064}})
    assert config.text == replace(
        VICUNA_7B,
        model_type="mistral",
        intermediate_size=14336,
        num_key_value_heads=8,
        max_position_embeddings=131072,
        rms_norm_eps=1e-6,
        sliding_window=4096,
    )
    assert config.template == "vicuna_v1"  # as BakLLaVA is asked
    open_window = {"model_type": "mistral", "vocab_size": 32064, "sliding_window": None}
    assert from_hf({**HF_7B, "text_config": open_window}).text.sliding_window is None


def test_sections_left_out_and_sections_left_empty_are_what_they_are_in_transformers() -> None:
    without = {key: value for key, value in HF_7B.items() if key != "vision_config"}
    assert from_hf(without).vision == CLIP_336
    assert from_hf({**HF_7B, "vision_config": {}}).vision == VisionConfig(
        768, 3072, 12, 12, 224, 32, "quick_gelu", 1e-5
    )


LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}


@pytest.mark.parametrize(
    ("old", "new", "rope"),
    [
        ({}, {"rope_type": "default", "rope_theta": 10000.0}, RopeConfig()),
        ({"rope_theta": 5e5}, {"rope_type": "default", "rope_theta": 5e5}, RopeConfig("default", 5e5)),
        (
            {"rope_scaling": {"type": "linear", "factor": 2}},
            {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0, "partial_rotary_factor": 1.0},
            RopeConfig("linear", 1e4, 2.0),
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "llama3", "rope_type": "llama3", **LLAMA3}},
            {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA3},
            RopeConfig("llama3", 5e5, 8.0, 1.0, 4.0, 8192),
        ),
    ],
)
def test_rope_is_the_same_in_old_and_new_spelling(old: Values, new: Values, rope: RopeConfig) -> None:
    text = HF_7B["text_config"]
    assert from_hf({**HF_7B, "text_config": {**text, **old}}).text.rope == rope
    assert from_hf({**HF_7B, "text_config": {**text, "rope_parameters": new}}).text.rope == rope


def test_a_clip_checkpoint_gives_its_tower_however_it_spells_it() -> None:
    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24}
    tower = {**sizes, "patch_size": 14, "image_size": 336, "tie_word_embeddings": True, "pruned_heads": {}}
    assert vision_from_hf({"model_type": "clip", "vision_config": tower}) == CLIP_336
    assert vision_from_hf({"model_type": "clip_vision_model", **tower}) == CLIP_336
    rest = {"patch_size": 14, "image_size": 336}
    assert vision_from_hf({"model_type": "clip", "vision_config": rest, "vision_config_dict": sizes}) == CLIP_336
    assert TOWERS["openai/clip-vit-large-patch14-336"] == CLIP_336


# What is refused, and the words that name it. The last key that is written here stands in the config.
HF_REFUSED: list[tuple[Values, str]] = [
    ({"model_type": "llava_next"}, 'model_type is "llava_next"'),
    ({"model_type": 7}, "model_type is 7"),
    ({"image_grid_pinpoints": [[336, 672]]}, '"image_grid_pinpoints": not implemented'),
    ({"use_image_newline_parameter": True}, '"use_image_newline_parameter": not implemented'),
    ({"quantization_config": {"bits": 4}}, '"quantization_config": not implemented'),
    ({"quantization": {"bits": 3000}}, '"quantization": not implemented'),
    ({"mm_projector_type": "linear"}, '"mm_projector_type": not implemented'),
    ({"vision_feature_layer": -99}, "vision_feature_layer is -99"),
    ({"vision_feature_layer": [-2, 25]}, "vision_feature_layer is [-2, 25]"),
    ({"vision_feature_layer": []}, "vision_feature_layer is []"),
    ({"vision_feature_layer": -2.0}, "vision_feature_layer is -2.0"),
    ({"vision_feature_layer": True}, "vision_feature_layer is true"),
    ({"vision_feature_select_strategy": "cls"}, 'vision_feature_select_strategy is "cls"'),
    ({"projector_hidden_act": "tanh"}, 'projector_hidden_act is "tanh"'),
    ({"projector_hidden_act": ["gelu"]}, 'projector_hidden_act is ["gelu"]'),
    ({"image_token_index": 32064}, "image_token_index is 32064"),
    ({"image_token_id": 5}, "image_token_index is 32000"),
    ({"eos_token_id": [2, -1]}, "eos_token_id is [2, -1]"),
    ({"tie_word_embeddings": "yes"}, 'tie_word_embeddings is "yes"'),
    ({"text_config": []}, "text_config: must be an object"),
    ({"vision_config": "clip"}, "vision_config: must be an object"),
]
TEXT_REFUSED: list[tuple[Values, str]] = [
    ({"model_type": "qwen2"}, 'model_type is "qwen2"'),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
    ({"num_hidden_layers": 10**400}, "num_hidden_layers is 1000"),
    ({"hidden_size": -4096}, "hidden_size is -4096"),
    ({"hidden_size": "4096"}, 'hidden_size is "4096"'),
    ({"hidden_size": 4096.0}, "hidden_size is 4096.0"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0"),
    ({"num_attention_heads": 33}, "num_attention_heads is 33"),
    ({"num_key_value_heads": 5}, "num_key_value_heads is 5"),
    ({"num_key_value_heads": 64}, "num_key_value_heads is 64"),
    ({"head_dim": 7}, "head_dim is 7"),
    ({"rms_norm_eps": float("nan")}, "rms_norm_eps is NaN"),
    ({"rope_theta": float("inf")}, "rope_theta is Infinity"),
    ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 'type is "dynamic"'),
    ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
    ({"rope_scaling": {"type": "linear", "rope_type": "llama3"}}, 'type is "linear"'),
    ({"rope_scaling": {"rope_type": "linear", "factor": 2.0, "beta_fast": 1}}, '"beta_fast": not implemented'),
    ({"rope_parameters": {"rope_type": "default", "factor": 4.0}}, '"factor": not implemented'),
    ({"rope_parameters": {"full_attention": {}}}, '"full_attention": not implemented'),
    ({"rope_parameters": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}}, "high_freq_factor is 1.0"),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "default"}}, "rope_scaling"),
    ({"hidden_act": "gelu"}, 'hidden_act is "gelu"'),
    ({"attention_bias": 1}, "attention_bias is 1"),
    ({"model_type": "mistral", "attention_bias": True}, "attention_bias is true"),
    ({"sliding_window": 4096}, '"sliding_window": not implemented'),
    ({"layer_types": ["full_attention"]}, '"layer_types": not implemented'),
    ({"bad_words_ids": [[5]]}, '"bad_words_ids": not implemented'),
    ({"pruned_heads": {"1": [0]}}, "pruned_heads is"),
    ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5"),
    ({"mm_vision_tower": "x"}, '"mm_vision_tower": not implemented'),
]
VISION_REFUSED: list[tuple[Values, str]] = [
    ({"model_type": "siglip_vision_model"}, 'model_type is "siglip_vision_model"'),
    ({"num_channels": 1}, "num_channels is 1"),
    ({"num_attention_heads": 0}, "num_attention_heads is 0"),
    ({"num_attention_heads": 15}, "num_attention_heads is 15"),
    ({"patch_size": 0}, "patch_size is 0"),
    ({"patch_size": 400}, "patch_size is 400"),
    ({"image_size": 10**5}, "image_size is 100000"),
    ({"image_size": [336, 336]}, "image_size is [336, 336]"),
    ({"hidden_act": "swish"}, 'hidden_act is "swish"'),
    ({"num_hidden_layers": MAX_LAYERS + 1}, "num_hidden_layers is 513"),
    ({"use_head": True}, '"use_head": not implemented'),
]
ORIGINAL_REFUSED: list[tuple[Values, str]] = [
    (ANYRES, 'image_aspect_ratio is "anyres"'),  # LLaVA-1.6
    *(({key: value}, key) for key, value in ANYRES.items()),
    ({"mm_vision_tower": "google/siglip-so400m-patch14-384"}, "siglip-so400m-patch14-384"),
    ({"mm_vision_tower": ["a"]}, 'mm_vision_tower is ["a"]'),
    ({"mm_hidden_size": 1152}, "mm_hidden_size is 1152"),
    ({"mm_projector_type": "identity"}, 'mm_projector_type is "identity"'),
    ({"mm_projector_type": "mlp9x_gelu"}, 'mm_projector_type is "mlp9x_gelu"'),
    ({"mm_projector_type": "mlp²x_gelu"}, "mm_projector_type"),
    ({"mm_vision_select_layer": None}, "mm_vision_select_layer is missing"),
    ({"mm_vision_select_layer": -26}, "mm_vision_select_layer is -26"),
    ({"mm_use_im_start_end": True}, "mm_use_im_start_end is true"),
    ({"mm_resampler_type": "perceiver"}, '"mm_resampler_type": not implemented'),
    ({"mm_spatial_pool_mode": "bilinear"}, '"mm_spatial_pool_mode": not implemented'),
    ({"s2": True, "s2_scales": "336,672"}, "s2 is true"),
    ({"model_type": "llava_qwen"}, 'model_type is "llava_qwen"'),
    ({"model_type": "llava_mpt"}, 'model_type is "llava_mpt"'),
]
OTHERS: list[tuple[Values, str]] = [
    ({}, "model_type null"),
    ({"model_type": "llama", "hidden_size": 4096}, 'model_type "llama"'),
    ({"model_type": "mine", "model_file": "model.py", "auto_map": {"AutoModel": "m.M"}}, 'model_type "mine"'),
    ({"model_type": {"a": ["b"] * 1000}}, "not a LLaVA"),
]


def refusals() -> list[tuple[Values, str]]:
    sections = [
        *(({**HF_7B, "text_config": {**HF_7B["text_config"], **change}}, said) for change, said in TEXT_REFUSED),
        *(({**HF_7B, "vision_config": {**HF_7B["vision_config"], **change}}, said) for change, said in VISION_REFUSED),
    ]
    hf = [({**HF_7B, **change}, said) for change, said in HF_REFUSED]
    original = [({**ORIGINAL_13B, **change}, said) for change, said in ORIGINAL_REFUSED]
    return [*hf, *sections, *original, *OTHERS]


@pytest.mark.parametrize(("values", "said"), refusals(), ids=[said for _, said in refusals()])
def test_what_is_not_implemented_is_refused_by_name_on_one_line(values: Values, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_hf(values)
    problem, advice = caught.value.problem, caught.value.advice
    assert said in problem
    assert "\n" not in problem + advice
    assert len(problem) < 200
    assert problem.startswith("config.json")


def test_code_keys_are_ignored_where_the_model_is_known() -> None:
    code = {"model_file": "model.py", "auto_map": {"AutoModel": "m.M"}, "trust_remote_code": True}
    assert from_hf({**HF_7B, **code}) == from_hf(HF_7B)
    assert from_hf({**ORIGINAL_13B, **code}) == from_hf(ORIGINAL_13B)


def test_another_version_of_a_converted_folder_is_told_apart() -> None:
    values = to_hf(from_hf(HF_7B))
    values["mlx_llava"]["format"] = 2
    with pytest.raises(ConfigError, match=r"another version \(format 2, not 1\)"):
        from_hf(values)


def test_a_value_that_is_nested_as_deeply_as_json_allows_is_refused_by_name() -> None:
    nested: Any = json.loads("[" * 900 + "]" * 900)
    with pytest.raises(ConfigError, match=r"model_type is \[\[\["):
        from_hf({**HF_7B, "model_type": nested})


def heads() -> st.SearchStrategy[dict[str, int]]:
    """Counts of heads that divide as they must."""
    return st.builds(
        lambda groups, size, kv: {"num_attention_heads": groups * kv, "num_key_value_heads": kv, "head_dim": 2 * size},
        *(st.integers(1, 16) for _ in range(3)),
    )


ropes = st.one_of(
    st.builds(RopeConfig, rope_theta=st.floats(1, 1e12)),
    st.builds(RopeConfig, st.just("linear"), st.floats(1, 1e12), st.floats(1, 1e6)),
    st.builds(
        RopeConfig,
        st.just("llama3"),
        st.floats(1, 1e12),
        st.floats(1, 1e6),
        st.floats(1e-6, 10),
        st.floats(11, 1e6),
        st.integers(1, 2**24),
    ),
)
sizes = st.integers(1, 2**16)


@st.composite
def configs(draw: st.DrawFn) -> LlavaConfig:
    """Any model that this program can run."""
    kind, count = draw(st.sampled_from(["llama", "mistral"])), draw(heads())
    biases = st.booleans() if kind == "llama" else st.just(False)
    text = TextConfig(
        model_type=kind,
        vocab_size=draw(st.integers(1000, 2**22)),
        hidden_size=draw(sizes),
        intermediate_size=draw(sizes),
        num_hidden_layers=draw(st.integers(1, MAX_LAYERS)),
        max_position_embeddings=draw(st.integers(1, 2**24)),
        rms_norm_eps=draw(st.floats(0, 1)),
        attention_bias=draw(biases),
        mlp_bias=draw(biases),
        sliding_window=draw(st.none() | st.integers(1, 2**24)) if kind == "mistral" else None,
        tie_word_embeddings=draw(st.booleans()),
        rope=draw(ropes),
        **count,
    )
    vision_heads, patch = draw(st.integers(1, 64)), draw(st.integers(1, 64))
    vision = VisionConfig(
        hidden_size=vision_heads * draw(st.integers(1, 128)),
        intermediate_size=draw(sizes),
        num_hidden_layers=draw(st.integers(1, MAX_LAYERS)),
        num_attention_heads=vision_heads,
        image_size=patch * draw(st.integers(1, 64)),
        patch_size=patch,
        hidden_act=draw(st.sampled_from(ACTS)),
        layer_norm_eps=draw(st.floats(0, 1)),
    )
    layer = st.integers(-vision.num_hidden_layers - 1, vision.num_hidden_layers)
    return LlavaConfig(
        vision=vision,
        text=text,
        feature_layers=tuple(draw(st.lists(layer, min_size=1, max_size=64))),
        keep_class_token=draw(st.booleans()),
        projector_depth=draw(st.integers(1, 8)),
        projector_act=draw(st.sampled_from(PROJECTOR_ACTS)),
        projector_bias=draw(st.booleans()),
        image_token_id=draw(st.integers(0, text.vocab_size - 1)),
        eos_token_ids=tuple(draw(st.lists(st.integers(0, text.vocab_size - 1), min_size=1, max_size=64))),
        image=ImageConfig(
            side=draw(st.integers(1, 4096)),
            fit=draw(st.sampled_from(["crop", "pad"])),
            mean=draw(st.just(CLIP_MEAN) | st.tuples(*[st.floats(-10, 10)] * 3)),
            std=draw(st.just(CLIP_STD) | st.tuples(*[st.floats(1e-3, 10)] * 3)),
        ),
        template=draw(st.text()),
        restart_after_image=draw(st.booleans()),
    )


@given(configs())
def test_a_config_that_was_written_reads_as_the_same_config(config: LlavaConfig) -> None:
    assert from_hf(json.loads(json.dumps(to_hf(config)))) == config


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
keys = st.sampled_from([*HF_7B, *HF_7B["text_config"], *HF_7B["vision_config"], *ORIGINAL_13B, "rope_parameters"])


@given(st.sampled_from(["top", "text_config", "vision_config", "original"]), keys, json_values)
def test_any_value_of_any_key_is_read_or_refused(place: str, key: str, value: Any) -> None:
    values: Values = json.loads(json.dumps(ORIGINAL_13B if place == "original" else HF_7B))
    (values[place] if place.endswith("config") else values)[key] = value
    with contextlib.suppress(ConfigError):
        assert isinstance(from_hf(values), LlavaConfig)
