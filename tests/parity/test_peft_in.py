"""Folders that PEFT saved, merged by the converter: the logits of transformers with the adapters on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from record import build, logits
from spine import CASES, add_tokenizer, together

from mlx_llava.checkpoint.folder import load
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions

FORMS: dict[str, dict[str, Any]] = {
    "the language model": {"target_modules": r"model\.language_model\.layers\.\d+\.(self_attn|mlp)\..*_proj"},
    "the tower too": {"target_modules": ["q_proj", "v_proj"]},
    "rank-stabilized": {"target_modules": ["down_proj"], "use_rslora": True},
    "with the projector": {"target_modules": ["o_proj"], "modules_to_save": ["multi_modal_projector"]},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "bin"])
def test_logits_are_those_of_peft(form: str, safe: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    base = build(CASES["plain"])
    base.save_pretrained(tmp_path / "base")
    add_tokenizer(tmp_path / "base")
    peft = get_peft_model(base, LoraConfig(r=4, lora_alpha=6, **FORMS[form])).eval()  # pyright: ignore
    for name, value in peft.named_parameters():
        if "lora_B" in name or ("modules_to_save" in name and "weight" in name):
            value.data += 0.05 * torch.randn_like(value)
    peft.save_pretrained(str(tmp_path / "lora"), safe_serialization=safe)
    if not safe and not (tmp_path / "lora" / "adapter_model.bin").exists():
        pytest.skip("this PEFT writes safetensors alone")
    options = ConvertOptions(
        hf_path=str(tmp_path / "lora"), mlx_path=tmp_path / "out", model_base=str(tmp_path / "base")
    )
    write(prepare(options))
    checkpoint = load(tmp_path / "out")
    batch = together(checkpoint.config.rows_per_crop)
    theirs: Any = peft
    ours, expected = np.array(checkpoint.model(batch)), logits(theirs, batch)
    for row, other, length in zip(ours, expected, batch.lengths, strict=True):
        np.testing.assert_allclose(row[:length], other[:length], rtol=0, atol=1e-4)  # as the spine has it
