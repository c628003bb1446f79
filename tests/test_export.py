"""`mlx-llava export` as a user meets it, and the way back through the converter. transformers reads the folder in
tests/parity."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from checkpoints import CONFIG, ORIGINAL, TEXT, arrays, converted, save
from lessons import LORA
from safetensors.numpy import load_file

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import load
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.errors import CheckpointError, ConversionError, LlavaError, UsageError
from mlx_llava.export import ExportOptions, export
from mlx_llava.models.lora import attach


def exported(model: Path, target: Path, **options: Any) -> Path:
    export(ExportOptions(model=str(model), hf_path=target, **options))
    return target


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return converted(save(tmp_path / "source", arrays()), tmp_path / "model")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("change", [{}, {"vision_feature_select_strategy": "full"}, {"vision_feature_layer": -1}])
def test_an_exported_folder_converts_to_the_same_bytes(dtype: str, change: dict[str, Any], tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays(), {**CONFIG, **change})
    first = converted(source, tmp_path / "first", dtype=dtype)
    second = converted(exported(first, tmp_path / "out"), tmp_path / "second")
    assert (first / "model.safetensors").read_bytes() == (second / "model.safetensors").read_bytes()
    ours, again = (json.loads((folder / "config.json").read_text()) for folder in (first, second))
    for values in (ours, again):
        del values["mlx_llava"]["source"]
    assert ours == again


def test_weights_are_those_of_the_released_layout(model: Path, tmp_path: Path) -> None:
    found = load_file(exported(model, tmp_path / "out") / "model.safetensors")
    source = load_file(tmp_path / "source" / "model.safetensors")
    assert found.keys() == source.keys()
    assert all((found[name] == source[name]).all() for name in source)


def test_large_models_are_cut_into_shards(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.convert.weights.writer.MAX_SHARD", 300_000)
    out = exported(model, tmp_path / "out")
    assert len(list(out.glob("model-*.safetensors"))) > 3
    assert len(read_index(out)) == 64


def test_pictures_that_are_padded_stay_padded(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    values = {"image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": 8, "crop_size": 8}
    (source / "preprocessor_config.json").write_text(json.dumps(values))
    out = exported(converted(source, tmp_path / "model"), tmp_path / "out")
    assert load(converted(out, tmp_path / "again")).config.image.fit == "pad"


@pytest.mark.parametrize("depth", [1, 3])
def test_a_projector_without_a_llava_hf_form_is_refused(depth: int, tmp_path: Path) -> None:
    kind = "linear" if depth == 1 else f"mlp{depth}x_gelu"
    weights = {name: value for name, value in arrays().items() if "linear_2" not in name}
    weights = {name.replace("multi_modal_projector.linear_1", "model.mm_projector"): v for name, v in weights.items()}
    if depth == 3:
        weights = {name.replace("mm_projector", "mm_projector.0"): value for name, value in weights.items()}
        for n in (2, 4):
            weights[f"model.mm_projector.{n}.weight"] = weights["language_model.model.layers.0.self_attn.q_proj.weight"]
            weights[f"model.mm_projector.{n}.bias"] = weights["language_model.model.norm.weight"]
    tower = {"mm_projector_type": kind, "mm_vision_tower": "openai/clip-vit-large-patch14"}
    clip = tmp_path / "clip"
    rest = {n: v for n, v in weights.items() if not n.startswith("vision")}
    clip_weights = {n.removeprefix("vision_tower."): v for n, v in weights.items() if n.startswith("vision")}
    save(clip, clip_weights, CONFIG["vision_config"])
    source = save(tmp_path / "source", rest, {**ORIGINAL, **tower})
    model = converted(source, tmp_path / "model", vision_tower=str(clip))
    with pytest.raises(ConversionError, match=f"projector of {depth} layers has no llava-hf form"):
        exported(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_overwrite_replaces_an_exported_folder_and_nothing_else(model: Path, tmp_path: Path) -> None:
    folder = adapters_of(model, tmp_path / "adapters")
    exports: list[dict[str, Any]] = [{}, {"peft": True, "adapter_path": folder}]
    fresh = [exported(model, tmp_path / f"fresh-{n}", **options) for n, options in enumerate(exports)]
    names = [{path.name for path in folder.iterdir()} for folder in fresh]
    for n, options in enumerate(exports):
        (tmp_path / f"empty-{n}").mkdir()
        for target in (tmp_path / f"fresh-{1 - n}", tmp_path / f"empty-{n}"):
            with pytest.raises(ConversionError, match=r"already exists\nChoose another --hf-path, or add --overwrite"):
                exported(model, target, **options)
            exported(model, target, overwrite=True, **options)
            assert {path.name for path in target.iterdir()} == names[n]
    for foreign in (model, tmp_path / "source", folder, tmp_path / "model" / "config.json"):
        before = foreign.stat().st_mtime_ns
        with pytest.raises(ConversionError, match=r"so --overwrite leaves it alone|still needed"):
            exported(model, foreign, overwrite=True)
        assert foreign.stat().st_mtime_ns == before


def test_the_path_of_the_source_is_not_published(tmp_path: Path) -> None:
    model = converted(save(tmp_path / "source", arrays()), tmp_path / "model")
    assert "# source, exported by mlx-llava" in (exported(model, tmp_path / "out") / "README.md").read_text()


def test_peft_needs_adapters(model: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="without --adapter-path"):
        exported(model, tmp_path / "out", peft=True)


def adapters_of(model: Path, folder: Path, base: str | None = None, *, lora: bool = True) -> Path:
    checkpoint = load(model)
    if lora:
        attach(checkpoint.model, LORA)
    projector = checkpoint.model.projector["linear_1"]
    projector.weight = projector.weight + 1
    folder.mkdir()
    base = base or fingerprint(model)
    adapters.save(folder, checkpoint.model, LORA if lora else None, base, projector=True)
    return folder


def test_adapters_of_another_model_are_refused(model: Path, tmp_path: Path) -> None:
    folder = adapters_of(model, tmp_path / "adapters", "another")
    with pytest.raises(CheckpointError, match="belong to another model"):
        exported(model, tmp_path / "out", adapter_path=folder)


def test_a_projector_alone_is_merged_and_is_nothing_for_peft(model: Path, tmp_path: Path) -> None:
    folder = adapters_of(model, tmp_path / "adapters", lora=False)
    found = load_file(exported(model, tmp_path / "out", adapter_path=folder) / "model.safetensors")
    before = load_file(tmp_path / "source" / "model.safetensors")
    changed = {name for name in before if (before[name] != found[name]).any()}
    assert changed == {"multi_modal_projector.linear_1.weight"}
    with pytest.raises(LlavaError, match="projector alone"):
        exported(model, tmp_path / "peft", adapter_path=folder, peft=True)


def test_an_image_token_is_added_where_there_is_none_and_the_card_says_so(tmp_path: Path) -> None:
    config = {**CONFIG, "text_config": TEXT}
    source = save(tmp_path / "source", arrays(), config)
    spec = json.loads((source / "tokenizer.json").read_text())
    spec["added_tokens"] = [token for token in spec["added_tokens"] if token["id"] < 530]
    spec["model"]["vocab"] |= {f"filler {n}": n for n in range(530, 576)}
    (source / "tokenizer.json").write_text(json.dumps(spec))
    out = exported(converted(source, tmp_path / "model", dtype="float32"), tmp_path / "out")
    assert "64 more rows, each the mean of the others" in (out / "README.md").read_text()
    values = json.loads((out / "config.json").read_text())
    assert (values["image_token_index"], values["text_config"]["vocab_size"]) == (576, 640)
    again = load(converted(out, tmp_path / "again"))
    table = again.model.language_model.embed_tokens.weight
    assert mx.allclose(table[576:], mx.broadcast_to(table[:576].mean(0), (64, 128)), rtol=0, atol=1e-6)
