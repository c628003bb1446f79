"""Every published layout of names becomes the same folder, and nothing is dropped by accident."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    CLIP_NAMES,
    CONFIG,
    EMBEDDING,
    HEAD,
    ORIGINAL,
    ORIGINAL_NAMES,
    TEXT,
    V5_NAMES,
    VISION,
    Arrays,
    arrays,
    converted,
    renamed,
    save,
    save_shards,
    tower_only,
    without_tower,
)
from safetensors.numpy import load_file, save_file

from mlx_llava.checkpoint.folder import load
from mlx_llava.convert.job import prepare
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, ConversionError, LlavaError, ModelError, NetworkError, UsageError

TIED = {**CONFIG, "tie_word_embeddings": True}


def weights_of(folder: Path) -> Arrays:
    return load_file(folder / "model.safetensors")


def same(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    """What the released layout gives."""
    folder = tmp_path_factory.mktemp("expected")
    return weights_of(converted(save(folder / "source", arrays()), folder / "out"))


def clip(folder: Path, weights: Arrays) -> Path:
    """A CLIP checkpoint: this tower, and a text tower beside it."""
    beside = {
        "text_model.embeddings.token_embedding.weight": np.ones((4, 4), np.float32),
        "text_projection.weight": np.ones((4, 4), np.float32),
        "visual_projection.weight": np.ones((4, 4), np.float32),
        "vision_model.embeddings.position_ids": np.arange(5)[None],
        "logit_scale": np.ones((), np.float32),
    }
    config = {"model_type": "clip", "vision_config": VISION}
    return save(folder, renamed(tower_only(weights), *CLIP_NAMES) | beside, config)


def test_a_converted_tensor_is_the_published_one_with_pixels_last(expected: Arrays) -> None:
    theirs = arrays()
    patch = "embeddings.patch_embedding.weight"
    np.testing.assert_array_equal(expected["language_model.lm_head.weight"], theirs[HEAD])
    np.testing.assert_array_equal(
        expected[f"vision_tower.{patch}"], theirs[f"vision_tower.vision_model.{patch}"].transpose(0, 2, 3, 1)
    )


@pytest.mark.parametrize(
    "rules",
    [
        V5_NAMES,
        (*V5_NAMES[:3], (r"^vision_tower", "model.vision_tower")),
        ((r"\.vision_model", ""),),
    ],
    ids=["transformers 5 in memory", "transformers 4.52", "released names, tower without vision_model"],
)
def test_all_layouts_of_llava_hf_give_the_same_weights(
    rules: tuple[tuple[str, str], ...], expected: Arrays, tmp_path: Path
) -> None:
    source = save(tmp_path / "source", renamed(arrays(), *rules))
    assert same(weights_of(converted(source, tmp_path / "out")), expected)


def test_original_llava_takes_its_tower_from_a_clip_checkpoint(expected: Arrays, tmp_path: Path) -> None:
    source = save(tmp_path / "source", renamed(without_tower(arrays()), *ORIGINAL_NAMES), ORIGINAL)
    tower = clip(tmp_path / "clip", arrays())
    out = converted(source, tmp_path / "out", vision_tower=str(tower))
    assert same(weights_of(out), expected)
    config = load(out).config
    assert (config.image.fit, config.restart_after_image, config.image_token_id) == ("pad", True, 0)


def test_a_tower_inside_the_checkpoint_is_preferred_and_noted(expected: Arrays, tmp_path: Path) -> None:
    source = save(tmp_path / "source", renamed(arrays(), *ORIGINAL_NAMES), ORIGINAL)
    other = clip(tmp_path / "clip", {name: -values for name, values in arrays().items()})
    out = converted(source, tmp_path / "out", vision_tower=str(other))
    assert same(weights_of(out), expected)
    assert "uses the checkpoint's own tower" in (out / "README.md").read_text()


def test_image_settings_come_from_a_separate_tower(tmp_path: Path) -> None:
    source = save(tmp_path / "source", renamed(without_tower(arrays()), *ORIGINAL_NAMES), ORIGINAL)
    tower = clip(tmp_path / "clip", arrays())
    (tower / "preprocessor_config.json").write_text(json.dumps({"size": 8, "crop_size": 8, "image_mean": [0.5] * 3}))
    config = load(converted(source, tmp_path / "out", vision_tower=str(tower))).config
    assert (config.image.mean, config.image.fit) == ((0.5, 0.5, 0.5), "pad")


def test_the_linear_projector_of_llava_v1_is_read(tmp_path: Path) -> None:
    weights = renamed(arrays(), *ORIGINAL_NAMES, (r"mm_projector\.0", "mm_projector"))
    weights = {name: values for name, values in weights.items() if "mm_projector.2" not in name}
    config = {**ORIGINAL, "mm_projector_type": "linear"}
    source = save(tmp_path / "source", weights, config)
    out = converted(source, tmp_path / "out", vision_tower=str(clip(tmp_path / "clip", arrays())))
    assert load(out).config.projector_depth == 1
    np.testing.assert_array_equal(
        weights_of(out)["projector.linear_1.weight"], arrays()["multi_modal_projector.linear_1.weight"]
    )


def test_shards_give_the_same_weights_as_one_file(expected: Arrays, tmp_path: Path) -> None:
    source = save_shards(tmp_path / "source", arrays(), 3)
    assert same(weights_of(converted(source, tmp_path / "out")), expected)


def test_buffers_of_old_files_are_dropped_and_counted(expected: Arrays, tmp_path: Path) -> None:
    buffers = {
        "language_model.model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(16, np.float32),
        "vision_tower.vision_model.embeddings.position_ids": np.arange(5)[None],
    }
    source = save(tmp_path / "source", arrays() | buffers)
    job = prepare(ConvertOptions(hf_path=str(source), mlx_path=tmp_path / "out"))
    assert "2 more dropped on purpose" in next(job.lines())
    assert same(weights_of(converted(source, tmp_path / "out")), expected)


@pytest.mark.parametrize("stored", [True, False], ids=["head stored", "head left out"])
def test_a_tied_head_is_left_out_where_it_repeats_the_embedding(stored: bool, tmp_path: Path) -> None:
    weights = arrays()
    weights[HEAD] = weights[EMBEDDING]
    source = save(tmp_path / "source", weights if stored else {n: w for n, w in weights.items() if n != HEAD}, TIED)
    out = converted(source, tmp_path / "out")
    assert "language_model.lm_head.weight" not in weights_of(out)
    assert load(out).config.text.tie_word_embeddings


def test_a_head_that_is_tied_by_the_config_alone_is_refused(tmp_path: Path) -> None:
    weights = arrays()
    weights[HEAD] = weights[EMBEDDING].copy()
    weights[HEAD][-1, -1] += 1
    with pytest.raises(CheckpointError, match="is not the embedding"):
        converted(save(tmp_path / "source", weights, TIED), tmp_path / "out")


def test_ties_in_the_text_config_count_as_well(tmp_path: Path) -> None:
    config = {**CONFIG, "text_config": {**TEXT, "tie_word_embeddings": True}}
    weights = {name: values for name, values in arrays().items() if name != HEAD}
    assert load(converted(save(tmp_path / "source", weights, config), tmp_path / "out")).config.text.tie_word_embeddings


THEIR_NORM = "language_model.model.norm.weight"
BROKEN: dict[str, tuple[Callable[[Arrays], object], str]] = {
    "missing": (lambda w: w.pop(THEIR_NORM), "tensors missing: language_model.norm.weight"),
    "extra": (
        lambda w: w.update({"language_model.model.layers.2.mlp.up_proj.weight": np.ones((2, 2), np.float32)}),
        "tensors not part of the model: language_model.layers.2.mlp.up_proj.weight",
    ),
    "unknown": (
        lambda w: w.update(image_newline=np.ones(128, np.float32)),
        "image_newline: not a tensor of a LLaVA",
    ),
    "twice": (lambda w: w.update({"lm_head.weight": w[HEAD]}), "are both language_model.lm_head.weight"),
    "mis-shaped": (
        lambda w: w.update({THEIR_NORM: np.ones((1, 128), np.float32)}),
        r"tensors of another form: language_model.norm.weight is F32 \[1, 128\], not F16/BF16/F32 \[128\]",
    ),
    "integers": (
        lambda w: w.update({THEIR_NORM: np.ones(128, np.int32)}),
        "language_model.model.norm.weight is I32, not a weight",
    ),
}


@pytest.mark.parametrize("change", BROKEN)
def test_every_tensor_must_be_there_once_in_its_shape(change: str, tmp_path: Path) -> None:
    edit, message = BROKEN[change]
    weights = arrays()
    edit(weights)
    with pytest.raises(LlavaError, match=message):
        prepare(ConvertOptions(hf_path=str(save(tmp_path / "source", weights)), mlx_path=tmp_path / "out"))


def test_a_tower_that_is_not_published_must_be_named(tmp_path: Path) -> None:
    source = save(tmp_path / "source", renamed(without_tower(arrays()), *ORIGINAL_NAMES), ORIGINAL)
    with pytest.raises(CheckpointError, match=r"someone/a-tower.*\n.*--vision-tower"):
        converted(source, tmp_path / "out")


def test_only_a_published_tower_is_fetched_by_the_name_in_a_config(tmp_path: Path) -> None:
    config = {**ORIGINAL, "mm_vision_tower": "openai/clip-vit-large-patch14", "mm_hidden_size": 1024}
    source = save(tmp_path / "source", renamed(without_tower(arrays()), *ORIGINAL_NAMES), config)
    with pytest.raises(NetworkError, match="openai/clip-vit-large-patch14: not on this machine"):
        converted(source, tmp_path / "out")


def test_a_separate_tower_is_refused_with_a_llava_hf_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--vision-tower"):
        converted(save(tmp_path / "source", arrays()), tmp_path / "out", vision_tower=str(tmp_path))


def test_bin_files_of_another_name_are_not_read(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / "model.safetensors").rename(source / "weights.bin")
    with pytest.raises(CheckpointError, match=r"PyTorch files.*\n.*pytorch_model.bin"):
        converted(source, tmp_path / "out")


def test_a_converted_folder_is_not_converted_again(tmp_path: Path) -> None:
    out = converted(save(tmp_path / "source", arrays()), tmp_path / "out")
    with pytest.raises(ModelError, match=r"already converted\nName the checkpoint it was made from\.$"):
        converted(out, tmp_path / "again", quantize=True)
    config = json.loads((out / "config.json").read_text())
    config["mlx_llava"]["source"]["name"] = "owner/a-llava"
    (out / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=r"already converted\n.* made from, owner/a-llava\.$"):
        converted(out, tmp_path / "again")


QUANTIZED: dict[str, tuple[dict[str, Any], str]] = {
    "AWQ": ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
    "GPTQ": ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
    "bitsandbytes": ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
    "FP8": ({"quantization_config": {"quant_method": "fp8"}}, "fp8"),
    "without a method": ({"quantization_config": {"load_in_8bit": True}}, "another program"),
    "in the text model": ({"text_config": {**TEXT, "quantization_config": {"quant_method": "eetq"}}}, "eetq"),
    "compressed-tensors of old": ({"compression_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
    "mlx-vlm": ({"quantization": {"group_size": 64, "bits": 4}}, "MLX"),
}


@pytest.mark.parametrize("case", QUANTIZED)
def test_a_quantized_checkpoint_is_refused_by_the_name_of_its_method(case: str, tmp_path: Path) -> None:
    change, method = QUANTIZED[case]
    source = save(tmp_path / "source", arrays(), {**CONFIG, **change})
    with pytest.raises(ModelError, match=f"source: quantized by {method}, .*\nName the unquantized repository"):
        converted(source, tmp_path / "out")


def test_another_model_is_refused_as_no_llava(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays(), TEXT)
    with pytest.raises(ModelError, match=r'source: not a LLaVA, its model_type is "llama"'):
        converted(source, tmp_path / "out")


@pytest.mark.parametrize(("file", "method"), [("quantize_config.json", "GPTQ"), ("quant_config.json", "AWQ")])
def test_a_file_of_quantization_settings_counts_as_well(file: str, method: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / file).write_text("{}")
    with pytest.raises(ModelError, match=f"quantized by {method}"):
        converted(source, tmp_path / "out")


@pytest.mark.parametrize("kind", ["qweight", "SCB", "weight.absmax", "weight_packed", "weight_scale_inv", "scales"])
def test_tensors_of_a_quantized_checkpoint_are_recognized_without_a_config(kind: str, tmp_path: Path) -> None:
    weights = {**arrays(), f"language_model.model.layers.0.mlp.up_proj.{kind}": np.ones(2, np.float32)}
    with pytest.raises(ConversionError, match=f"{kind}: a tensor of a quantized checkpoint\nName the unquantized"):
        converted(save(tmp_path / "source", weights), tmp_path / "out")


def test_the_generation_config_sets_the_stop_tokens(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / "generation_config.json").write_text('{"eos_token_id": [2, 7], "temperature": 0.9}')
    assert load(converted(source, tmp_path / "out")).config.eos_token_ids == (2, 7)


def test_an_unknown_tensor_of_a_separate_tower_is_refused(tmp_path: Path) -> None:
    source = save(tmp_path / "source", renamed(without_tower(arrays()), *ORIGINAL_NAMES), ORIGINAL)
    tower = clip(tmp_path / "clip", arrays())
    save_file({"something.else": np.ones(2, np.float32)}, tower / "model.safetensors")
    with pytest.raises(ConversionError, match=r"something\.else: not a tensor of a LLaVA"):
        converted(source, tmp_path / "out", vision_tower=str(tower))
