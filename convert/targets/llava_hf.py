"""A llava-hf folder: the files beside its weights, and the names of its weights."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlx_llava.checkpoint.config_json import to_hf
from mlx_llava.config import ImageConfig, LlavaConfig
from mlx_llava.convert.sources.inventory import CONVOLUTION, EMBEDDING, HEAD, TO_TORCH
from mlx_llava.convert.targets.chat_template import jinja
from mlx_llava.convert.targets.image_token import IMAGE, Vocabulary
from mlx_llava.convert.weights.algebra import Extended, Transposed, Weight
from mlx_llava.errors import ConversionError
from mlx_llava.prompts.templates import template
from mlx_llava.prompts.tokenizer_json import BOS, EOS

PROCESSOR = {"processor_class": "LlavaProcessor"}


def check_form(config: LlavaConfig) -> None:
    """Raise ConversionError if llava-hf has no form for the model."""
    if config.projector_depth != 2:
        problem = f"a projector of {config.projector_depth} layers has no llava-hf form: it always has two"
        raise ConversionError(problem, "Only LLaVA-1.5's kind, mlp2x_gelu, can be exported.")


def released_name(ours: str) -> str:
    """The name of a tensor in the first llava-hf files, which every version of transformers reads."""
    part, rest = ours.split(".", 1)
    if part == "language_model":
        return ours if rest.startswith("lm_head.") else f"language_model.model.{rest}"
    return {"vision_tower": "vision_tower.vision_model.", "projector": "multi_modal_projector."}[part] + rest


def released_weights(weights: Mapping[str, Weight], num_rows: int) -> dict[str, Weight]:
    """The weights by released names, in torch's layout, the vocabulary extended to `num_rows`."""
    released: dict[str, Weight] = {}
    for name, weight in weights.items():
        if name == CONVOLUTION:
            weight = Transposed(weight, TO_TORCH)
        elif name in (EMBEDDING, HEAD) and weight.shape[0] < num_rows:
            weight = Extended(weight, num_rows)
        released[released_name(name)] = weight
    return released


def write_files(folder: Path, config: LlavaConfig, vocabulary: Vocabulary, dtype: str) -> None:
    """Write everything but the weights and the README."""
    files = {
        "config.json": _config(config, vocabulary, dtype),
        "generation_config.json": {**_ends(config, vocabulary), "do_sample": False},
        "tokenizer.json": vocabulary.spec,
        "tokenizer_config.json": _tokenizer_config(config, vocabulary),
        "special_tokens_map.json": _special_tokens(vocabulary),
        "preprocessor_config.json": _images(config.image),
        "processor_config.json": {
            **PROCESSOR,
            "image_token": IMAGE,
            "patch_size": config.vision.patch_size,
            "vision_feature_select_strategy": "full" if config.keep_class_token else "default",
            "num_additional_image_tokens": 1,  # the class token
        },
    }
    for name, values in files.items():
        text = json.dumps(values, indent=1, ensure_ascii=False)
        (folder / name).write_text(f"{text}\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(jinja(template(config.template)), encoding="utf-8")


def _config(config: LlavaConfig, vocabulary: Vocabulary, dtype: str) -> dict[str, Any]:
    text = replace(config.text, vocab_size=vocabulary.num_rows)
    values = to_hf(replace(config, text=text, image_token_id=vocabulary.image_id))
    del values["mlx_llava"]
    ends = _ends(config, vocabulary)
    rope = values["text_config"]["rope_parameters"]
    values["text_config"] |= {**ends, "hidden_act": "silu", "rope_theta": rope["rope_theta"]}
    if rope["rope_type"] != "default":
        values["text_config"]["rope_scaling"] = rope  # for versions before 5
    if config.text.model_type == "llama":
        del values["text_config"]["sliding_window"]
    values["vision_config"]["projection_dim"] = config.vision.hidden_size  # of a layer that LLaVA lacks
    return {**values, **ends, "image_seq_length": config.rows_per_crop, "dtype": dtype, "torch_dtype": dtype}


def _ends(config: LlavaConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    stops = list(config.eos_token_ids)
    return {
        "bos_token_id": vocabulary.special(BOS),
        "eos_token_id": stops[0] if len(stops) == 1 else stops,
        "pad_token_id": vocabulary.pad_id,
    }


def _special_tokens(vocabulary: Vocabulary) -> dict[str, str]:
    unknown = vocabulary.spec["model"].get("unk_token")
    names = {"bos_token": BOS, "eos_token": EOS, "pad_token": vocabulary.spelling(vocabulary.pad_id)}
    return names | ({"unk_token": unknown} if unknown else {})


def _tokenizer_config(config: LlavaConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    return {
        **PROCESSOR,
        **_special_tokens(vocabulary),
        "tokenizer_class": "PreTrainedTokenizerFast",  # takes tokenizer.json as it is
        "image_token": IMAGE,
        "extra_special_tokens": {"image_token": IMAGE},
        "model_max_length": config.text.max_position_embeddings,
        "padding_side": "left",
        "clean_up_tokenization_spaces": False,
    }


def _images(image: ImageConfig) -> dict[str, Any]:
    pads = image.fit == "pad"
    return {
        **PROCESSOR,
        "image_processor_type": "LlavaImageProcessor" if pads else "CLIPImageProcessor",
        **({"do_pad": True} if pads else {}),
        **dict.fromkeys(("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"), True),
        "size": {"shortest_edge": image.side},
        "crop_size": {"height": image.side, "width": image.side},
        "resample": 3,  # bicubic
        "rescale_factor": 1 / 255,
        "image_mean": list(image.mean),
        "image_std": list(image.std),
    }
