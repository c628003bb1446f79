"""Small LLaVA checkpoints in every published layout, written out by hand: the converter's oracle knows no MLX."""

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions

LLAMA_576 = Path(__file__).parent / "fixtures" / "llama-576"
Arrays = dict[str, np.ndarray[Any, Any]]

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 8,
    "patch_size": 4,
}
TEXT = {
    "model_type": "llama",
    "vocab_size": 576,  # the tokenizer fits
    "hidden_size": 128,
    "intermediate_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
CONFIG = {"model_type": "llava", "image_token_index": 530, "text_config": TEXT, "vision_config": VISION}
ORIGINAL = {
    **{key: value for key, value in TEXT.items() if key != "model_type"},
    "model_type": "llava",
    "mm_vision_tower": "someone/a-tower",
    "mm_hidden_size": 32,
    "mm_projector_type": "mlp2x_gelu",
    "mm_vision_select_layer": -2,
    "mm_vision_select_feature": "patch",
    "image_aspect_ratio": "pad",
}
EMBEDDING, HEAD = "language_model.model.embed_tokens.weight", "language_model.lm_head.weight"

_LAYER = {
    "self_attn.q_proj.weight": (128, 128),
    "self_attn.k_proj.weight": (64, 128),
    "self_attn.v_proj.weight": (64, 128),
    "self_attn.o_proj.weight": (128, 128),
    "mlp.gate_proj.weight": (192, 128),
    "mlp.up_proj.weight": (192, 128),
    "mlp.down_proj.weight": (128, 192),
    "input_layernorm.weight": (128,),
    "post_attention_layernorm.weight": (128,),
}
_BLOCK = {
    **{f"self_attn.{name}_proj.weight": (32, 32) for name in "qkv"},
    **{f"self_attn.{name}_proj.bias": (32,) for name in "qkv"},
    "self_attn.out_proj.weight": (32, 32),
    "self_attn.out_proj.bias": (32,),
    "mlp.fc1.weight": (96, 32),
    "mlp.fc1.bias": (96,),
    "mlp.fc2.weight": (32, 96),
    "mlp.fc2.bias": (32,),
    **{f"layer_norm{n}.{kind}": (32,) for n in (1, 2) for kind in ("weight", "bias")},
}


def shapes(num_layers: int = 2) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the released llava-hf layout."""
    tower = "vision_tower.vision_model"
    return {
        EMBEDDING: (576, 128),
        **{f"language_model.model.layers.{n}.{key}": s for n in range(num_layers) for key, s in _LAYER.items()},
        "language_model.model.norm.weight": (128,),
        HEAD: (576, 128),
        "multi_modal_projector.linear_1.weight": (128, 32),
        "multi_modal_projector.linear_1.bias": (128,),
        "multi_modal_projector.linear_2.weight": (128, 128),
        "multi_modal_projector.linear_2.bias": (128,),
        f"{tower}.embeddings.class_embedding": (32,),
        f"{tower}.embeddings.patch_embedding.weight": (32, 3, 4, 4),
        f"{tower}.embeddings.position_embedding.weight": (5, 32),
        **{
            f"{tower}.{name}.{kind}": (32,)
            for name in ("pre_layrnorm", "post_layernorm")
            for kind in ("weight", "bias")
        },
        **{f"{tower}.encoder.layers.{n}.{key}": s for n in range(2) for key, s in _BLOCK.items()},
    }


def arrays(num_layers: int = 2) -> Arrays:
    """Random weights in the released layout, exact in half precision."""
    draw = np.random.Generator(np.random.PCG64(0))
    return {
        name: draw.standard_normal(shape).astype(np.float16).astype(np.float32)
        for name, shape in shapes(num_layers).items()
    }


def renamed(weights: Mapping[str, np.ndarray[Any, Any]], *rules: tuple[str, str]) -> Arrays:
    """The weights under other names: each rule is a pattern and what takes its place."""
    made = dict(weights)
    for pattern, new in rules:
        made = {re.sub(pattern, new, name): values for name, values in made.items()}
    return made


ORIGINAL_NAMES = (
    (r"^language_model\.", ""),
    (r"^multi_modal_projector\.linear_1", "model.mm_projector.0"),
    (r"^multi_modal_projector\.linear_2", "model.mm_projector.2"),
    (r"^vision_tower\.", "model.vision_tower.vision_tower."),
)
V5_NAMES = (
    (r"^language_model\.lm_head", "lm_head"),
    (r"^language_model\.model", "model.language_model"),
    (r"^multi_modal_projector", "model.multi_modal_projector"),
    (r"^vision_tower\.vision_model", "model.vision_tower"),
)
CLIP_NAMES = ((r"^vision_tower\.", ""),)


def tower_only(weights: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """The vision tower's part."""
    return {name: values for name, values in weights.items() if name.startswith("vision_tower.")}


def without_tower(weights: Mapping[str, np.ndarray[Any, Any]]) -> Arrays:
    """Everything else."""
    return {name: values for name, values in weights.items() if not name.startswith("vision_tower.")}


def save(folder: Path, weights: Mapping[str, np.ndarray[Any, Any]], config: object = CONFIG) -> Path:
    """A checkpoint folder with a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(weights), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(LLAMA_576 / "tokenizer.json", folder)
    return folder


def save_shards(folder: Path, weights: Mapping[str, np.ndarray[Any, Any]], count: int) -> Path:
    """The same checkpoint in shards with an index."""
    save(folder, weights)
    (folder / "model.safetensors").unlink()
    weight_map = {name: f"model-{n % count + 1:05d}-of-{count:05d}.safetensors" for n, name in enumerate(weights)}
    for shard in set(weight_map.values()):
        save_file({name: weights[name] for name in weights if weight_map[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def converted(source: Path, target: Path, **options: Any) -> Path:
    """Convert, and name the folder."""
    write(prepare(ConvertOptions(hf_path=str(source), mlx_path=target, **options)))
    return target
