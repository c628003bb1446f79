"""Small LLaVAs of every form that must be exact, with weights and prompts that NumPy alone can make.

The parity run compares them with transformers and records what it saw; the golden run compares with the record.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.coverage import parameter_forms
from mlx_llava.config import LlavaConfig
from mlx_llava.inputs import TEXT, Batch, Example, ImageSpan, collate, no_crops
from mlx_llava.models.llava import Llava

EMBEDDED = Path(__file__).parents[1] / "mlx_llava" / "embedded" / "tiny-llava-hf"
LLAMA_576 = Path(__file__).parent / "fixtures" / "llama-576"  # a tokenizer of 532 tokens, and how it is used
GOLDEN = Path(__file__).parent / "golden" / "spine.npz"
IMAGE_ID = 530
SIDE = 56
NEW_TOKENS = 24

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": SIDE,
    "patch_size": 14,
}
LLAMA = {
    "model_type": "llama",
    "vocab_size": 576,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
}
SCALES = {"vision_tower": 0.1, "projector": 0.2, "language_model": 0.2}  # features and logits of a few units
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}


def recorded() -> list[dict[str, Any]]:
    """What transformers answered with the embedded model: `python tests/parity/record_embedded.py`."""
    return [json.loads(line) for line in (EMBEDDED / "examples" / "questions.jsonl").read_text().splitlines()]


def answer_of(image: str, question: str) -> dict[str, Any]:
    """The recorded turn of a single question: its answer, ids and prompt length."""
    single = (r["turns"][0] for r in recorded() if r["image"] == image and len(r["turns"]) == 1)
    return next(turn for turn in single if turn["question"] == question)


def conversation_of(image: str) -> list[dict[str, Any]]:
    """The recorded turns of a longer conversation."""
    return next(r["turns"] for r in recorded() if r["image"] == image and r["kind"] == "conversation")


@dataclass(frozen=True)
class Case:
    """What differs from the plain small LLaVA, in the words of config.json."""

    top: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    vision: dict[str, Any] = field(default_factory=dict)

    def config(self) -> dict[str, Any]:
        """The config.json."""
        return {
            "model_type": "llava",
            "image_token_index": IMAGE_ID,
            **self.top,
            "text_config": {**LLAMA, **self.text},
            "vision_config": {**VISION, **self.vision},
        }


FORMS = {
    "plain": Case(),
    "class token kept": Case(top={"vision_feature_select_strategy": "full"}),
    "layer -1": Case(top={"vision_feature_layer": -1}),
    "layer +2": Case(top={"vision_feature_layer": 2}),
    "two layers": Case(top={"vision_feature_layer": [-2, 1]}),
    "two layers, class token kept": Case(
        top={"vision_feature_layer": [-1, 2], "vision_feature_select_strategy": "full"}
    ),
    "grouped queries": Case(text={"num_key_value_heads": 2}),
    "tied embeddings": Case(top={"tie_word_embeddings": True}, text={"tie_word_embeddings": True}),
    "attention bias": Case(text={"attention_bias": True, "mlp_bias": True}),
    "explicit head_dim": Case(text={"head_dim": 32}),
    "text eps": Case(text={"rms_norm_eps": 1e-2}),
    "mistral": Case(text={"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": None}),
    "mistral, window 8": Case(text={"model_type": "mistral", "num_key_value_heads": 2, "sliding_window": 8}),
    "theta, old spelling": Case(text={"rope_theta": 5e5}),
    "theta, v5": Case(text={"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}),
    "linear, old spelling": Case(text={"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 4.0}}),
    "linear, middle spelling": Case(text={"rope_scaling": {"rope_type": "linear", "factor": 4.0}}),
    "linear, v5": Case(text={"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}}),
    "llama3, old spelling": Case(text={"rope_theta": 5e5, "rope_scaling": LLAMA3}),
    "llama3, v5": Case(text={"rope_parameters": {**LLAMA3, "rope_theta": 5e5}}),
    "clip gelu": Case(vision={"hidden_act": "gelu"}),
    "clip eps": Case(vision={"layer_norm_eps": 1e-2}),
    "projector relu": Case(top={"projector_hidden_act": "relu"}),
    "projector without bias": Case(top={"multimodal_projector_bias": False}),
}

# One thing differs in each form above. These differ in everything at once, drawn so that pairs meet.
FACTORS: dict[str, list[str]] = {
    "tower": ["plain", "clip gelu", "clip eps"],
    "features": ["plain", "class token kept", "layer -1", "layer +2", "two layers", "two layers, class token kept"],
    "projector": ["plain", "projector relu", "projector without bias"],
    "text": ["plain", "mistral", "mistral, window 8", "attention bias", "text eps"],
    "heads": ["plain", "grouped queries", "explicit head_dim", "tied embeddings"],
    "rope": [name for name in FORMS if name.startswith(("plain", "theta", "linear", "llama3"))],
}


def mixed(seed: int) -> Case:
    """A form that draws one of each factor."""
    draw = np.random.Generator(np.random.PCG64(seed))
    parts = [FORMS[names[draw.integers(len(names))]] for names in FACTORS.values()]
    top, text, vision = (
        {k: v for p in parts for k, v in getattr(p, kind).items()} for kind in ("top", "text", "vision")
    )
    return Case(top, text, vision)


CASES = {**FORMS, **{f"mixed {seed}": mixed(seed) for seed in range(16)}}
ALL_ROWS = ("plain", "llama3, v5", "mistral, window 8")  # of which the record holds every logit of one prompt
ALL_LAYERS = ("plain", "clip gelu", "clip eps")  # and the tower's every hidden state


def weights(config: LlavaConfig, text_scale: float = SCALES["language_model"]) -> dict[str, NDArray[np.float32]]:
    """Tensors by their released llava-hf names; logits come out with a magnitude of about five."""
    draw = np.random.Generator(np.random.PCG64(0))
    scales = {**SCALES, "language_model": text_scale}
    made = {}
    for name, (shape, _) in sorted(parameter_forms(Llava(config)).items()):
        scale, middle = (0.1, float(name.endswith("weight"))) if "norm" in name else (scales[name.split(".")[0]], 0.0)
        values = middle + scale * (2 * draw.random(shape) - 1) * 3**0.5  # uniform with that deviation
        if name.endswith("patch_embedding.weight"):
            values = values.transpose(0, 3, 1, 2)
        made[released_name(name)] = np.ascontiguousarray(values, np.float32)
    return made


def released_name(ours: str) -> str:
    """What llava-hf called the tensor in the files that were released."""
    part, rest = ours.split(".", 1)
    if part == "language_model":
        return ours if rest.startswith("lm_head") else f"language_model.model.{rest}"
    return {"vision_tower": "vision_tower.vision_model.", "projector": "multi_modal_projector."}[part] + rest


def write_checkpoint(case: Case, folder: Path) -> None:
    """A llava-hf folder in the released layout, as NumPy alone can write it."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(weights(from_hf(case.config())), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(case.config()))
    add_tokenizer(folder)


def add_tokenizer(folder: Path) -> None:
    """A tokenizer whose ids fit 576 rows."""
    shutil.copy(LLAMA_576 / "tokenizer.json", folder)


def prompt(layout: list[int], rows: int, seed: int) -> Example:
    """Random tokens: a number n in `layout` stands for n of them, a 0 for a picture."""
    draw = np.random.Generator(np.random.PCG64(seed))
    tokens, slots, images = [1], [TEXT], []
    for length in layout:
        if length:
            tokens += draw.integers(3, 259, length).tolist()
            slots += [TEXT] * length
        else:
            images.append(ImageSpan("", len(tokens), len(images) * rows, rows))
            tokens += [IMAGE_ID] * rows
            slots += range(images[-1].first_row, images[-1].first_row + rows)
    crops = (2 * draw.random((len(images), SIDE, SIDE, 3)) - 1).astype(np.float32) * 2 if images else no_crops()
    columns = np.array(tokens, np.int32), np.array(slots, np.int32), np.zeros(len(tokens), bool)
    return Example(*columns, crops, tuple(images))


def prompts(rows: int) -> dict[str, Example]:
    """The ways pictures stand in prompts."""
    return {
        "one picture": prompt([5, 0, 7], rows, 1),
        "two pictures in one prompt": prompt([3, 0, 2, 0, 4], rows, 2),
        "two pictures in two turns": prompt([4, 0, 9, 6, 0, 5], rows, 3),
        "text only": prompt([20], rows, 4),
    }


def together(rows: int) -> Batch:
    """All prompts as one batch: different pictures, different lengths."""
    return collate(list(prompts(rows).values()))


def last_rows(batch: Batch, logits: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """The logits at each row's last position."""
    for row, length in zip(logits, batch.lengths, strict=True):
        yield row[length - 1]
