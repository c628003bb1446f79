"""A converted folder loads whole and exactly, or is refused with the reason."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import CONFIG, ORIGINAL, Arrays, arrays, converted, save
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file

from mlx_llava.checkpoint import folder as checkpoint_folder
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.errors import CheckpointError, LimitError, LlavaError, ModelError
from mlx_llava.models import backend

NORM, HEAD = "language_model.norm.weight", "language_model.lm_head.weight"
LAYER = "language_model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "source", arrays())


@pytest.fixture
def folder(source: Path, tmp_path: Path) -> Path:
    """A converted folder, quantized to 4 bits, to be damaged."""
    return converted(source, tmp_path / "model", quantize=True)


def parameters(loaded: Checkpoint) -> dict[str, mx.array]:
    flat: Any = tree_flatten(loaded.model.parameters())
    return dict(flat)


def refused(folder: Path, kind: type[LlavaError] = CheckpointError) -> str:
    with pytest.raises(kind) as caught:
        load(folder)
    problem, advice = caught.value.problem, caught.value.advice
    assert "\n" not in problem + advice
    return problem


def test_two_loads_give_equal_weights(folder: Path) -> None:
    first, second = parameters(load(folder)), parameters(load(folder))
    assert first.keys() == second.keys()
    assert all(mx.array_equal(first[name], second[name]) for name in first)


def test_what_is_loaded_is_what_the_files_hold(source: Path, tmp_path: Path) -> None:
    folder = converted(source, tmp_path / "model")
    loaded, stored = parameters(load(folder)), load_file(folder / "model.safetensors")
    assert loaded.keys() == stored.keys()
    assert all(np.array_equal(np.asarray(loaded[name]), stored[name]) for name in stored)


NO_MODEL: dict[str, tuple[str | None, str, str]] = {
    "no folder": (None, "no such folder", "Name a converted folder."),
    "an empty folder": ("", "no model in it, config.json is missing", "mlx-llava convert, fuse or finetune"),
    "a checkpoint": (json.dumps(CONFIG), "not a converted model", "mlx-llava convert --hf-path '{folder}' --mlx-path"),
    "original LLaVA": (json.dumps(ORIGINAL), "not a converted model", "mlx-llava convert --hf-path '{folder}'"),
    "one quantized elsewhere": (
        json.dumps({**CONFIG, "quantization_config": {"quant_method": "awq"}}),
        "quantized by awq, which cannot be converted",
        "Name the unquantized repository",
    ),
    "LLaVA-NeXT": (
        json.dumps({**CONFIG, "model_type": "llava_next"}),
        'its model_type "llava_next" is not supported',
        "Name a LLaVA-1.5 checkpoint",
    ),
    "another model": ('{"model_type": "qwen2"}', 'not a LLaVA, its model_type is "qwen2"', "Name a LLaVA"),
    "no config": ("{}", "not a LLaVA, its model_type is null", "Name a LLaVA"),
}


@pytest.mark.parametrize("state", NO_MODEL)
def test_what_is_not_converted_is_exit_3_and_says_what_was_expected(state: str, tmp_path: Path) -> None:
    config, problem, advice = NO_MODEL[state]
    folder = tmp_path / "a model"
    if config is not None:
        folder.mkdir()
    if config:
        (folder / "config.json").write_text(config)
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert caught.value.exit_code == 3
    assert caught.value.problem == f"{folder}: {problem}"
    assert advice.format(folder=folder) in caught.value.advice


@pytest.mark.parametrize(
    ("config", "advice"), [({"peft_type": "LORA"}, "Merge them .* --model-base"), ({"mlx_llava": {}}, "--adapter-path")]
)
def test_adapters_are_not_a_model(config: dict[str, Any], advice: str, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"adapters, not a model\n.*{advice}"):
        load(tmp_path)


def change(folder: Path, edit: Callable[[Arrays], object]) -> None:
    """Edit the tensors of a folder."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


TENSORS: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "missing": (lambda t: t.pop(NORM), f"tensors missing: {NORM}"),
    "scales missing": (lambda t: t.pop(f"{LAYER}.scales"), f"tensors missing: {LAYER}.scales"),
    "extra": (lambda t: t.update(more=t[NORM]), "tensors not part of the model: more"),
    "mis-shaped": (lambda t: t.update({NORM: t[NORM][:64]}), f"{NORM} is F32 [64], not F16/BF16/F32 [128]"),
    "transposed": (
        lambda t: t.update({"projector.linear_1.weight": np.ascontiguousarray(t["projector.linear_1.weight"].T)}),
        "projector.linear_1.weight is F32 [32, 128]",
    ),
    "cast to int": (lambda t: t.update({NORM: t[NORM].astype(np.int32)}), f"{NORM} is I32 [128]"),
    "cast to double": (lambda t: t.update({NORM: t[NORM].astype(np.float64)}), f"{NORM} is F64 [128]"),
    "quantized weight cast to signed": (
        lambda t: t.update({f"{LAYER}.weight": t[f"{LAYER}.weight"].astype(np.int32)}),
        f"{LAYER}.weight is I32 [128, 24], not U32",
    ),
    "quantized weight cast to float": (
        lambda t: t.update({f"{LAYER}.weight": t[f"{LAYER}.weight"].astype(np.float32)}),
        f"{LAYER}.weight is F32 [128, 24], not U32",
    ),
}


@pytest.mark.parametrize("name", TENSORS)
def test_every_tensor_must_be_there_in_its_shape_and_kind(name: str, folder: Path) -> None:
    edit, said = TENSORS[name]
    change(folder, edit)
    assert said in refused(folder)


def test_five_tensors_are_named_and_the_rest_are_counted(folder: Path) -> None:
    change(folder, lambda tensors: [tensors.pop(name) for name in list(tensors) if ".self_attn." in name])
    problem = refused(folder)
    assert problem.count(", ") == 4
    assert problem.endswith(" more")


TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "bits 3000": ({LAYER: {"group_size": 64, "bits": 3000, "mode": "affine"}}, "bits is 3000"),
    "bits of another kind": ({LAYER: {"group_size": 64, "bits": 3, "mode": "affine"}}, "not U32 [128, 18]"),
    "group of another size": (
        {LAYER: {"group_size": 32, "bits": 4, "mode": "affine"}},
        "not F16/BF16/F32 [128, 6]",
    ),
    "group that does not divide": (
        {LAYER: {"group_size": 128, "bits": 4, "mode": "affine"}},
        "cannot be quantized in groups of 128",
    ),
    "unknown mode": ({LAYER: {"group_size": 64, "bits": 4, "mode": "nf4"}}, 'mode is "nf4"'),
    "another mode": ({LAYER: {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "not part of the model"),
    "no mode": ({LAYER: {"group_size": 64, "bits": 4}}, "mode is missing"),
    "more keys": ({LAYER: {"group_size": 64, "bits": 4, "mode": "affine", "seed": 1}}, '"seed": not implemented'),
    "layer that does not exist": (
        {"language_model.layers.7.mlp.up_proj": {"group_size": 64, "bits": 4, "mode": "affine"}},
        '"language_model.layers.7.mlp.up_proj" cannot be quantized',
    ),
    "layer that is no matrix": (
        {"language_model.norm": {"group_size": 64, "bits": 4, "mode": "affine"}},
        '"language_model.norm" cannot be quantized',
    ),
    "embedding that is added": (
        {"vision_tower.embeddings.position_embedding": {"group_size": 32, "bits": 4, "mode": "affine"}},
        'position_embedding" cannot be quantized',
    ),
    "the model itself": ({"": {"group_size": 64, "bits": 4, "mode": "affine"}}, '"" cannot be quantized'),
    "list for a layer": ({LAYER: [64, 4]}, f"{LAYER}: must be an object"),
}


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", TABLES)
def test_a_quantization_table_must_fit_the_model_and_the_files(name: str, folder: Path) -> None:
    table, said = TABLES[name]
    edit_config(folder, lambda values: values["quantization"].update(table))
    assert said in refused(folder)


@pytest.mark.parametrize("table", [[], "4bit", 4])
def test_a_quantization_table_is_an_object(table: object, folder: Path) -> None:
    edit_config(folder, lambda values: values.update(quantization=table))
    assert "quantization: must be an object" in refused(folder)


def test_a_layer_that_the_table_forgets_is_noticed(folder: Path) -> None:
    edit_config(folder, lambda values: values["quantization"].pop(LAYER))
    assert f"{LAYER}.scales" in refused(folder)


def test_a_tokenizer_must_fit_the_embedding(folder: Path) -> None:
    spec = json.loads((folder / "tokenizer.json").read_text())
    spec["added_tokens"].append({**spec["added_tokens"][-1], "id": 576, "content": "<extra>"})
    (folder / "tokenizer.json").write_text(json.dumps(spec))
    assert "the tokenizer has 577 tokens, the model 576 rows" in refused(folder)
    (folder / "tokenizer.json").unlink()
    assert "tokenizer.json: No such file or directory" in refused(folder)


def test_a_truncated_shard_looks_like_an_incomplete_download(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    assert "perhaps an incomplete download" in refused(folder)
    file.unlink()
    assert "neither model.safetensors" in refused(folder, ModelError)


def replace_file(file: Path) -> None:
    """The same bytes in another file of the same name."""
    file.with_suffix(".new").write_bytes(file.read_bytes())
    file.with_suffix(".new").rename(file)


@pytest.mark.parametrize("edit", [replace_file, Path.touch, Path.unlink])
def test_a_file_that_changes_while_it_is_read_is_refused(
    edit: Callable[[Path], object], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, reads = backend.to_compute_dtype, iter(range(5))

    def read_and_change(x: mx.array) -> mx.array:
        if next(reads, None) == 3:
            edit(folder / "model.safetensors")
        return real(x)

    monkeypatch.setattr(backend, "to_compute_dtype", read_and_change)
    assert "changed while it was read" in refused(folder)


def test_weights_that_do_not_fit_into_memory_are_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "memory_limit", lambda: 1000)
    monkeypatch.setattr(checkpoint_folder, "_weights", lambda *_: pytest.fail("no tensor is to be read"))
    assert "MB are free" in refused(folder, LimitError)
