"""Write a LLaVA with random weights in llava-hf's layout: CLIP-L/336 and TinyLlama's shape, or a small one.

Needs neither torch nor transformers, and a few megabytes of memory. The tokenizer is that of the tests, extended by
pieces that decode and encode to themselves, so that an answer tokenizes to the ids that were generated.
"""

import itertools
import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TEXTS = Path(__file__).parents[1] / "tests" / "fixtures" / "llama-576"
TOWER = {
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
TEXT = {
    "model_type": "llama",
    "vocab_size": 32064,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
}
# 36 million weights, for measurements that repeat many steps
SMALL_TOWER = {
    "hidden_size": 384,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 6,
    "image_size": 224,
    "projection_dim": 384,
}
SMALL_TEXT = {
    "vocab_size": 1024,
    "hidden_size": 512,
    "intermediate_size": 1376,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
}
PIECES = 32000  # tokenizer pieces; <image> and <pad> are 32000 and 32001, 62 rows are unused, as in llava-hf
DTYPES = {"float16": "F16", "float32": "F32"}
CHUNK = 1 << 22  # random numbers drawn at once


@dataclass(frozen=True)
class Kind:
    """A kind of checkpoint; 22 layers are TinyLlama's 1.1 billion text weights."""

    layers: int = 22
    dtype: str = "float32"
    small: bool = False

    @property
    def name(self) -> str:
        """The folder's name."""
        return f"llava-hf-{'small-' * self.small}{self.layers}-{self.dtype}"

    @property
    def tower(self) -> dict[str, Any]:
        """The config of the vision tower."""
        return TOWER | SMALL_TOWER if self.small else TOWER

    @property
    def text(self) -> dict[str, Any]:
        """The config of the text model."""
        return TEXT | (SMALL_TEXT if self.small else {}) | {"num_hidden_layers": self.layers}


LARGE, SMALL = Kind(), Kind(layers=8, small=True)


def write(folder: Path, kind: Kind) -> None:
    """Write every file of the checkpoint."""
    config = {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "image_token_index": 530 if kind.small else PIECES,
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
        "torch_dtype": kind.dtype,
        "text_config": kind.text,
        "vision_config": kind.tower,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    _write_texts(folder, kind)
    _write_weights(folder / "model.safetensors", list(shapes(kind)), kind.dtype)


def _write_texts(folder: Path, kind: Kind) -> None:
    """Write the tokenizer, templates and image settings of the tests, adapted to larger images and more tokens."""
    from mlx_llava.embedded import IMAGE

    for name in ("special_tokens_map.json", "chat_template.json", "chat_template.jinja"):
        shutil.copy(TEXTS / name, folder)
    shutil.copy(IMAGE, folder / "picture.png")

    def adapt(name: str, **changes: Any) -> None:
        values = json.loads((TEXTS / name).read_text())
        (folder / name).write_text(json.dumps(values | changes, indent=1))

    side = kind.tower["image_size"]
    adapt("preprocessor_config.json", size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    adapt("processor_config.json", patch_size=14)
    if kind.small:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(TEXTS / name, folder)
        return
    spec = json.loads((TEXTS / "tokenizer.json").read_text())
    shift = PIECES - _fill(spec["model"])  # <image> and <pad> follow the pieces
    for token in spec["added_tokens"]:
        token["id"] += shift if token["id"] > 2 else 0
    (folder / "tokenizer.json").write_text(json.dumps(spec, ensure_ascii=False))
    added = {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in spec["added_tokens"]}
    adapt("tokenizer_config.json", model_max_length=4096, added_tokens_decoder=added)


def _fill(model: dict[str, Any]) -> int:
    """Extend a vocabulary to PIECES by letters of two alphabets and their merged pairs; returns the old size."""
    first = len(model["vocab"])
    one, other = [chr(0x4E00 + n) for n in range(178)], [chr(0x5E00 + n) for n in range(178)]
    pairs = itertools.product(one, other)
    pieces = [*one, *other, *("".join(pair) for pair in pairs)][: PIECES - first]
    model["vocab"] |= {piece: first + n for n, piece in enumerate(pieces)}
    old = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
    model["merges"] = old + [list(piece) for piece in pieces if len(piece) == 2]
    return first


def shapes(kind: Kind) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every tensor, as in the released llava-hf checkpoints."""
    yield from _tower(kind)
    text = kind.text
    width, hidden, vocab = text["hidden_size"], text["intermediate_size"], text["vocab_size"]
    keys = width * text["num_key_value_heads"] // text["num_attention_heads"]
    yield from _biased("multi_modal_projector.linear_1", width, kind.tower["hidden_size"])
    yield from _biased("multi_modal_projector.linear_2", width, width)
    yield "language_model.model.embed_tokens.weight", (vocab, width)
    for n in range(kind.layers):
        block = f"language_model.model.layers.{n}"
        for name, rows in (("q", width), ("k", keys), ("v", keys), ("o", width)):
            yield f"{block}.self_attn.{name}_proj.weight", (rows, width)
        yield f"{block}.mlp.gate_proj.weight", (hidden, width)
        yield f"{block}.mlp.up_proj.weight", (hidden, width)
        yield f"{block}.mlp.down_proj.weight", (width, hidden)
        yield f"{block}.input_layernorm.weight", (width,)
        yield f"{block}.post_attention_layernorm.weight", (width,)
    yield "language_model.model.norm.weight", (width,)
    yield "language_model.lm_head.weight", (vocab, width)


def _tower(kind: Kind) -> Iterator[tuple[str, tuple[int, ...]]]:
    tower, width, hidden = "vision_tower.vision_model", kind.tower["hidden_size"], kind.tower["intermediate_size"]
    patches = (kind.tower["image_size"] // 14) ** 2
    yield f"{tower}.embeddings.class_embedding", (width,)
    yield f"{tower}.embeddings.patch_embedding.weight", (width, 3, 14, 14)
    yield f"{tower}.embeddings.position_embedding.weight", (1 + patches, width)
    yield from _biased(f"{tower}.pre_layrnorm", width)
    for n in range(kind.tower["num_hidden_layers"]):
        block = f"{tower}.encoder.layers.{n}"
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            yield from _biased(f"{block}.self_attn.{name}", width, width)
        yield from _biased(f"{block}.mlp.fc1", hidden, width)
        yield from _biased(f"{block}.mlp.fc2", width, hidden)
        yield from _biased(f"{block}.layer_norm1", width)
        yield from _biased(f"{block}.layer_norm2", width)
    yield from _biased(f"{tower}.post_layernorm", width)


def _biased(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _write_weights(file: Path, tensors: list[tuple[str, tuple[int, ...]]], dtype: str) -> None:
    """Write a safetensors file in chunks: norm weights are 1, everything else is noise."""
    import numpy as np

    random, size = np.random.default_rng(0), np.dtype(dtype).itemsize
    ends = [0, *itertools.accumulate(math.prod(shape) * size for _, shape in tensors)]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for (name, shape), begin, end in zip(tensors, ends, ends[1:], strict=False):
        header[name] = {"dtype": DTYPES[dtype], "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for name, shape in tensors:
            norm = "norm" in name and name.endswith("weight")
            for begin in range(0, math.prod(shape), CHUNK):
                count = min(CHUNK, math.prod(shape) - begin)
                noise = (random.random(count, np.float32) - 0.5) * (12 / shape[-1]) ** 0.5
                out.write((np.ones(count) if norm else noise).astype(dtype).tobytes())


if __name__ == "__main__":
    write(Path(sys.argv[1]), Kind(int(sys.argv[2]), sys.argv[3], small=len(sys.argv) > 4))
