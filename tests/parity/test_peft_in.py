"""Folders that PEFT saved, merged by the converter: the weights of `merge_and_unload`."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from record import Reference, build, logits, modern_name
from spine import CASES, add_tokenizer, released_name, together
from transformers import LlavaForConditionalGeneration

from mlx_llava.checkpoint.folder import load
from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import LlavaError

LANGUAGE = r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*_proj"
QUERY = {"target_modules": ["q_proj"]}  # of both towers
FORMS: dict[str, dict[str, Any]] = {
    "the language model": {"target_modules": LANGUAGE},
    "the tower too": {"target_modules": ["q_proj", "v_proj"]},
    "rank-stabilized": {"target_modules": ["down_proj"], "use_rslora": True},
    "with the projector": {"target_modules": ["o_proj"], "modules_to_save": ["multi_modal_projector"]},
    "with a layer of the projector": {"target_modules": ["o_proj"], "modules_to_save": ["linear_1"]},
    "with the embedding and the head": {**QUERY, "modules_to_save": ["embed_tokens", "lm_head"]},
    "on all linear layers": {"target_modules": "all-linear"},
    "ranks and alphas by layer": {
        "target_modules": ["q_proj", "down_proj"],
        # PEFT saves patterns in another order, so they must not overlap
        "rank_pattern": {r"language_model.*q_proj": 8, r"layers\.1\.mlp\.down_proj": 2, r"^model\.v.*\.2\..*q_proj": 3},
        "alpha_pattern": {"layers.0.self_attn.q_proj": 3, r"layers\.[12]\.mlp\.down_proj": 0},
    },
    "ranks by layer, rank-stabilized": {**QUERY, "use_rslora": True, "rank_pattern": {r"layers\.0.*q_proj": 9}},
    "alpha 0": {**QUERY, "lora_alpha": 0},
    "orthogonal": {**QUERY, "init_lora_weights": "orthogonal"},
    "DoRA": {"target_modules": ["q_proj", "down_proj", "fc1"], "use_dora": True},
    "DoRA, ranks by layer": {"target_modules": ["down_proj"], "use_dora": True, "rank_pattern": {"down_proj": 5}},
    "DoRA on the patch embedding": {"target_modules": ["patch_embedding"], "use_dora": True},
    "the patch embedding": {"target_modules": ["patch_embedding", "q_proj"]},
    "the embedding": {"target_modules": ["embed_tokens", "v_proj"]},
    "the position embedding": {"target_modules": ["position_embedding"]},
    "the head": {"target_modules": ["lm_head", "down_proj"]},
    "biases of adapted layers": {"target_modules": ["fc1", "q_proj"], "bias": "lora_only"},
    "all biases": {"target_modules": ["fc1", "q_proj"], "bias": "all"},
    "trained tokens": {**QUERY, "trainable_token_indices": [571, 3, 5]},
    "trained tokens of a named table": {**QUERY, "trainable_token_indices": {"embed_tokens": [0, 575]}},
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "DoRA on an embedding": ({"target_modules": ["embed_tokens"], "use_dora": True}, "DoRA on an embedding"),
    "biases of adapters": ({**QUERY, "target_modules": ["fc1"], "lora_bias": True}, "lora_bias"),
    "parameters": ({"target_modules": [], "target_parameters": ["q_proj.weight"]}, "target_parameters"),
    "PiSSA": ({**QUERY, "init_lora_weights": "pissa"}, 'init_lora_weights is "pissa"'),
}


def tuned(folder: Path, form: dict[str, Any], case: str = "plain", *, safe: bool = True) -> tuple[PeftModel, Path]:
    """A base and its adapters in `folder`, with everything trained moved away from its start."""
    torch.manual_seed(0)
    base = build(CASES[case])
    base.save_pretrained(folder / "base")
    add_tokenizer(folder / "base")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that are saved whole
        peft: Any = get_peft_model(base, LoraConfig(**{"r": 4, "lora_alpha": 6, **form})).eval()  # pyright: ignore
        for value in peft.parameters():
            if value.requires_grad:
                value.data += 0.05 * torch.randn_like(value)
        peft.save_pretrained(str(folder / "lora"), safe_serialization=safe)
    return peft, folder / "lora"


def converted(folder: Path) -> Path:
    """The adapters of `folder`, merged into its base by the converter."""
    options = ConvertOptions(
        hf_path=str(folder / "lora"), mlx_path=folder / "out", model_base=str(folder / "base"), dtype="float32"
    )
    write(prepare(options))
    return folder / "out"


def assert_equal_weights(out: Path, theirs: LlavaForConditionalGeneration) -> None:
    expected = theirs.state_dict()
    with Reader() as reader:
        for name, tensor in read_index(out).items():
            value = expected[modern_name(released_name(name))].numpy()
            value = value.transpose(0, 2, 3, 1) if value.ndim == 4 else value
            np.testing.assert_allclose(reader.rows(tensor), value, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_those_of_merge_and_unload(form: str, tmp_path: Path) -> None:
    peft, _ = tuned(tmp_path, FORMS[form])
    before = {name: value.clone() for name, value in build(CASES["plain"]).state_dict().items()}
    merged: Reference = peft.merge_and_unload()  # pyright: ignore
    changed = [name for name, value in merged.state_dict().items() if not torch.equal(value, before[name])]
    assert changed or form == "alpha 0"
    assert_equal_weights(converted(tmp_path), merged)


def test_trained_tokens_of_a_tied_embedding_change_the_head_too(tmp_path: Path) -> None:
    peft, _ = tuned(tmp_path, FORMS["trained tokens"], "tied embeddings")
    assert_equal_weights(converted(tmp_path), peft.merge_and_unload())  # pyright: ignore


@pytest.mark.parametrize("form", ["the embedding", "the head", "with the embedding and the head"])
def test_adapters_of_one_of_two_tied_weights_are_refused(form: str, tmp_path: Path) -> None:
    tuned(tmp_path, FORMS[form], "tied embeddings")
    with pytest.raises(LlavaError, match="ties to another\nMerge it with PEFT"):
        converted(tmp_path)


@pytest.mark.parametrize("case", REFUSED)
def test_other_kinds_are_refused_by_name_with_a_way_out(case: str, tmp_path: Path) -> None:
    form, name = REFUSED[case]
    tuned(tmp_path, form)
    with pytest.raises(LlavaError) as refused:
        converted(tmp_path)
    assert name in refused.value.problem
    assert refused.value.advice == "Merge it with PEFT's merge_and_unload, save the model, and convert that."


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_logits_are_those_of_peft(safe: bool, tmp_path: Path) -> None:
    peft, folder = tuned(tmp_path, FORMS["the tower too"], safe=safe)
    if not safe and not (folder / "adapter_model.bin").exists():
        pytest.skip("this PEFT writes safetensors alone")
    checkpoint = load(converted(tmp_path))
    batch = together(checkpoint.config.rows_per_crop)
    theirs: Any = peft
    ours, expected = np.array(checkpoint.model(batch)), logits(theirs, batch)
    for row, other, length in zip(ours, expected, batch.lengths, strict=True):
        np.testing.assert_allclose(row[:length], other[:length], rtol=0, atol=1e-4)  # as the spine has it
