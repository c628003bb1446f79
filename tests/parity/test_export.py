"""Exported folders in transformers and PEFT: the same logits, the same tokens."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
import torch
from lessons import LORA, adapted
from peft import PeftModel
from PIL import Image
from record import logits
from spine import CASES, EMBEDDED, together, write_checkpoint
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.targets.chat_template import jinja
from mlx_llava.export import ExportOptions, export
from mlx_llava.images.pixels import crop, open_image
from mlx_llava.inputs import ImageCrops
from mlx_llava.prompts.templates import TEMPLATES, Turn, spell

FORMS = ("plain", "class token kept", "two layers", "tied embeddings", "mistral, window 8", "llama3, v5", "mixed 3")
Convert = Callable[[Path], Path]


def exported(model: Path, target: Path, **options: Any) -> Path:
    export(ExportOptions(model=str(model), hf_path=target, **options))
    return target


def transformers_of(folder: Path) -> Any:
    loaded: Any = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    model, report = loaded
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return model.eval()


def assert_same_logits(checkpoint: Checkpoint, theirs: Any) -> None:
    batch = together(checkpoint.config.rows_per_crop)
    ours, expected = np.array(checkpoint.model(batch)), logits(theirs, batch)
    for row, other, length in zip(ours, expected, batch.lengths, strict=True):
        np.testing.assert_allclose(row[:length], other[:length], rtol=0, atol=1e-4)  # as the spine has it


@pytest.mark.parametrize("case", FORMS)
def test_transformers_gives_the_same_logits_from_the_exported_folder(
    case: str, converted: Convert, tmp_path: Path
) -> None:
    write_checkpoint(CASES[case], tmp_path / "source")
    model = converted(tmp_path / "source")
    assert_same_logits(load(model), transformers_of(exported(model, tmp_path / "out")))


def test_quantized_weights_are_exported_dequantized(tmp_path: Path) -> None:
    write_checkpoint(CASES["plain"], tmp_path / "source")
    write(
        prepare(ConvertOptions(hf_path=str(tmp_path / "source"), mlx_path=tmp_path / "q", quantize=True, q_tower=True))
    )
    assert_same_logits(load(tmp_path / "q"), transformers_of(exported(tmp_path / "q", tmp_path / "out")))


@pytest.fixture
def tuned(converted: Convert, tmp_path: Path) -> tuple[Path, Path]:
    """A converted folder, and adapters with a projector that was trained beside them."""
    write_checkpoint(CASES["plain"], tmp_path / "source")
    model, folder = converted(tmp_path / "source"), tmp_path / "adapters"
    checkpoint = load(model)
    adapted(checkpoint.model)
    projector = checkpoint.model.projector["linear_1"]
    projector.weight = projector.weight + 0.01
    folder.mkdir()
    adapters.save(folder, checkpoint.model, LORA, fingerprint(model), projector=True)
    return model, folder


def with_adapters(model: Path, folder: Path) -> Checkpoint:
    checkpoint = load(model)
    adapters.load(folder, checkpoint.model, fingerprint(model))
    return checkpoint


def test_merged_adapters_give_the_same_logits(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = tuned
    out = exported(model, tmp_path / "out", adapter_path=folder)
    assert_same_logits(with_adapters(model, folder), transformers_of(out))


def test_peft_loads_the_exported_adapters_to_the_same_logits(tuned: tuple[Path, Path], tmp_path: Path) -> None:
    model, folder = tuned
    base = transformers_of(exported(model, tmp_path / "base"))
    out = exported(model, tmp_path / "peft", adapter_path=folder, peft=True)
    peft = PeftModel.from_pretrained(base, out)
    assert_same_logits(with_adapters(model, folder), peft)
    assert not any("vision_tower" in name for name, _ in peft.named_parameters() if "lora_" in name)


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_the_processor_prepares_a_question_as_we_do(fit: str, embedded: Checkpoint, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(embedded.folder, tmp_path / "model"))
    values = json.loads((folder / "config.json").read_text())
    values["mlx_llava"]["picture"]["fit"] = fit
    (folder / "config.json").write_text(json.dumps(values))
    checkpoint = load(folder)
    processor: Any = AutoProcessor.from_pretrained(exported(folder, tmp_path / "out"))
    path = EMBEDDED / "examples" / "two_shapes_wide.png"
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is this?"}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True)
    given = processor(images=Image.open(path).convert("RGB"), text=text, return_tensors="np")
    crops = crop(open_image(path, "training"), checkpoint.config.image)[None]
    pieces = TEMPLATES["vicuna_v1"].answering([Turn("What is this?", 1)])
    example = checkpoint.tokenizer.encode(pieces, [ImageCrops(crops, checkpoint.config.rows_per_crop)])
    assert given["input_ids"][0].tolist() == example.tokens.tolist()
    ours = crops.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(given["pixel_values"], ours, rtol=0, atol=0.02)  # a step of 1/255, in units of std
    assert np.mean(np.abs(given["pixel_values"] - ours)) < 1e-3


@pytest.mark.parametrize("name", [name for name, template in TEMPLATES.items() if not template.captions])
def test_a_chat_template_writes_what_ours_spells(name: str, embedded: Checkpoint, tmp_path: Path) -> None:
    template = TEMPLATES[name]
    tokenizer = AutoTokenizer.from_pretrained(exported(embedded.folder, tmp_path / "out"))
    tokenizer.chat_template = jinja(template)
    turns = [Turn('Who\'s "there"?\n{{ 1 }}', 1, "Nobody."), Turn("Sure?", 0, "Yes."), Turn("Why?")]
    image = {"type": "image"}
    messages = []
    for turn in turns:
        text = {"type": "text", "text": turn.question}
        messages.append({"role": "user", "content": [*[image] * turn.num_images, text]})
        messages += [{"role": "assistant", "content": turn.answer}] if turn.answer else []
    for system in (None, "Be brief."):
        opened = messages if system is None else [{"role": "system", "content": system}, *messages]
        written = tokenizer.apply_chat_template(opened, tokenize=False, add_generation_prompt=True)
        assert written == spell(template.answering(turns, system))


def test_a_vocabulary_without_an_image_token_gets_one(converted: Convert, tmp_path: Path) -> None:
    write_checkpoint(CASES["plain"], tmp_path / "source")
    path = tmp_path / "source" / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["added_tokens"] = [t for t in spec["added_tokens"] if t["id"] < 530]
    spec["model"]["vocab"] |= {f"filler {n}": n for n in range(530, 576)}  # as full as an original one
    path.write_text(json.dumps(spec))
    model = converted(tmp_path / "source")
    theirs = transformers_of(exported(model, tmp_path / "out"))
    table = theirs.get_input_embeddings().weight.detach().numpy()
    assert table.shape[0] == 640
    np.testing.assert_allclose(table[576:], np.tile(table[:576].mean(0), (64, 1)), rtol=0, atol=1e-6)
    processor: Any = AutoProcessor.from_pretrained(tmp_path / "out")
    assert (processor.image_token_id, processor.tokenizer.pad_token_id) == (576, 577)
    assert theirs.config.image_token_id == 576
    checkpoint = load(model)
    batch = together(checkpoint.config.rows_per_crop)
    ours = np.array(checkpoint.model(batch))
    tokens = np.where(batch.slots >= 0, 576, batch.tokens)
    expected = logits(theirs, replace(batch, tokens=tokens))[..., :576]
    for row, other, length in zip(ours, expected, batch.lengths, strict=True):
        np.testing.assert_allclose(row[:length], other[:length], rtol=0, atol=1e-4)
    assert mx.isfinite(mx.array(expected)).all()
