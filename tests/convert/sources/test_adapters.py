"""What a tuning left, merged into its base, and models that have yet to be trained: against NumPy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import (
    CLIP_NAMES,
    ORIGINAL,
    ORIGINAL_NAMES,
    TEXT,
    VISION,
    Arrays,
    arrays,
    converted,
    renamed,
    save,
    tower_only,
    without_tower,
)
from safetensors.numpy import save_file
from torch_files import as_stream, as_zip, strided

from mlx_llava.checkpoint.folder import load
from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.errors import CheckpointError, ConfigError, ConversionError, LlavaError, UsageError

RANK, ALPHA = 4, 6
PEFT = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "bias": "none", "task_type": "CAUSAL_LM"}
VICUNA = {**TEXT, "architectures": ["LlamaForCausalLM"]}
LAYERS = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")


def values(folder: Path) -> Arrays:
    tensors = read_index(folder)
    with Reader() as reader:
        return {name: reader.rows(tensor) for name, tensor in tensors.items()}


def original() -> Arrays:
    return renamed(without_tower(arrays()), *ORIGINAL_NAMES)


@pytest.fixture
def tower(tmp_path: Path) -> Path:
    return save(tmp_path / "clip", renamed(tower_only(arrays()), *CLIP_NAMES), VISION)


@pytest.fixture
def vicuna(tmp_path: Path) -> Path:
    weights = {name: value for name, value in original().items() if "mm_projector" not in name}
    return save(tmp_path / "vicuna", weights, VICUNA)


def projector() -> Arrays:
    """A trained one, which the base does not have."""
    return {name: value + 1 for name, value in original().items() if "mm_projector" in name}


def adapters() -> Arrays:
    draw, base, made = np.random.default_rng(1), original(), {}
    for layer in LAYERS:
        out, inputs = base[f"{layer}.weight"].shape
        made[f"{layer}.lora_A.weight"] = draw.standard_normal((RANK, inputs)).astype(np.float32)
        made[f"{layer}.lora_B.weight"] = draw.standard_normal((out, RANK)).astype(np.float32)
    return made


def wrapped(tensors: Arrays) -> Arrays:
    return {f"base_model.model.{name}": value for name, value in tensors.items()}


def lora_folder(folder: Path, **changes: Any) -> Path:
    """A folder as LLaVA's train.py leaves it with --lora_enable."""
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**PEFT, **changes}))
    (folder / "config.json").write_text(json.dumps(ORIGINAL))
    write_bin(folder / "adapter_model.bin", wrapped(adapters()), as_zip)
    write_bin(folder / "non_lora_trainables.bin", wrapped(projector()), as_stream)
    return folder


def write_bin(path: Path, tensors: Arrays, form: Callable[[Any], bytes] = as_zip) -> None:
    path.write_bytes(form({name: strided(value) for name, value in tensors.items()}))


def merged(scale: float) -> Arrays:
    """By our names: what must come out for the layers and the projector."""
    base, tuned = original(), adapters()
    made = {
        f"language_{layer}.weight": base[f"{layer}.weight"]
        + scale * tuned[f"{layer}.lora_B.weight"] @ tuned[f"{layer}.lora_A.weight"]
        for layer in LAYERS
    }
    for name, value in projector().items():
        n = 1 if ".0." in name else 2
        made[f"projector.linear_{n}.{name.rpartition('.')[2]}"] = value
    return made


def assert_merged(folder: Path, scale: float) -> None:
    found, expected = values(folder), merged(scale)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5, err_msg=name)  # float32 sums
    kept = "language_model.layers.0.self_attn.k_proj.weight"
    np.testing.assert_array_equal(found[kept], original()[kept.removeprefix("language_")])
    assert load(folder).config.projector_depth == 2


def test_a_lora_folder_of_llava_is_merged_into_vicuna(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    source = lora_folder(tmp_path / "lora")
    out = converted(source, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))
    assert_merged(out, ALPHA / RANK)
    told = (out / "README.md").read_text()
    assert f"merged into {vicuna}: 2 adapters, 4 tensors replaced" in told
    assert "names another base" not in told


def test_rank_stabilized_adapters_count_by_the_root_of_their_rank(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    source = lora_folder(tmp_path / "lora", use_rslora=True)
    assert_merged(
        converted(source, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower)), ALPHA / RANK**0.5
    )


def test_a_peft_folder_is_merged_into_a_llava_hf_checkpoint(tmp_path: Path) -> None:
    base = save(tmp_path / "base", arrays())
    folder = tmp_path / "lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({**PEFT, "modules_to_save": ["multi_modal_projector"]}))
    names = ((r"^model\.layers", "model.language_model.layers"), (r"^model\.mm_projector\.0", "linear_1"))
    tuned = renamed({**adapters(), **projector()}, *names, (r"^model\.mm_projector\.2", "linear_2"))
    tuned = renamed(tuned, (r"^linear", "model.multi_modal_projector.linear"))
    save_file(wrapped(tuned), folder / "adapter_model.safetensors")
    assert_merged(converted(folder, tmp_path / "out", model_base=str(base)), ALPHA / RANK)


def test_a_projector_alone_is_put_before_its_vicuna(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    folder = tmp_path / "stage1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ORIGINAL))
    write_bin(folder / "mm_projector.bin", projector())
    out = converted(folder, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))
    found, expected = values(out), merged(0.0)
    assert all((found[name] == expected[name]).all() for name in expected)


def test_a_projector_with_other_tensors_is_refused_by_its_own_file(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    folder = tmp_path / "stage1"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(ORIGINAL))
    write_bin(
        folder / "mm_projector.bin", {**projector(), "model.embed_tokens.weight": np.ones((578, 128), np.float32)}
    )
    with pytest.raises(ConversionError, match=r"stage1/mm_projector.bin: holds model.embed_tokens.weight besides"):
        converted(folder, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))


def test_adapters_without_a_config_of_their_llava_are_refused_by_name(
    tmp_path: Path, vicuna: Path, tower: Path
) -> None:
    folder = tmp_path / "stage1"
    folder.mkdir()
    write_bin(folder / "mm_projector.bin", projector())
    with pytest.raises(ConversionError, match=r"stage1: no config.json of a LLaVA, and .*vicuna is a text model"):
        converted(folder, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))


def test_a_lora_folder_without_its_projector_takes_that_of_a_llava_and_says_so(
    tmp_path: Path, vicuna: Path, tower: Path
) -> None:
    source = lora_folder(tmp_path / "lora")
    (source / "non_lora_trainables.bin").unlink()
    llava = save(tmp_path / "llava", original(), ORIGINAL)
    out = converted(source, tmp_path / "out", model_base=str(llava), vision_tower=str(tower))
    assert "note: non_lora_trainables.bin is missing: the projector is the base's" in (out / "README.md").read_text()
    np.testing.assert_array_equal(values(out)["projector.linear_1.bias"], original()["model.mm_projector.0.bias"])
    with pytest.raises(
        ConversionError, match=r"lora: non_lora_trainables.bin is missing, and .*vicuna has no projector"
    ):
        converted(source, tmp_path / "none", model_base=str(vicuna), vision_tower=str(tower))


def test_half_a_projector_of_original_llava_is_not_completed_from_the_base(tmp_path: Path, tower: Path) -> None:
    source = lora_folder(tmp_path / "lora")
    half = {name: value for name, value in projector().items() if ".0." in name}
    write_bin(source / "non_lora_trainables.bin", wrapped(half))
    llava = save(tmp_path / "llava", original(), ORIGINAL)
    with pytest.raises(CheckpointError, match=r"tensors missing: projector\.linear_2"):
        converted(source, tmp_path / "out", model_base=str(llava), vision_tower=str(tower))


REFUSED: dict[str, tuple[type[LlavaError], str, dict[str, Any]]] = {
    "DoRA without magnitudes": (CheckpointError, "use_dora and the magnitude", {"use_dora": True}),
    "an unknown bias": (ConfigError, "bias", {"bias": "some"}),
    "another method": (ConfigError, "peft_type", {"peft_type": "IA3"}),
    "ranks that are not the tensors'": (CheckpointError, "rank 4, .* says 8", {"rank_pattern": {"q_proj": 8}}),
    "ranks that are no numbers": (ConfigError, "rank_pattern holds", {"rank_pattern": {"q_proj": "8"}}),
    "alphas that are no numbers": (ConfigError, "alpha_pattern holds", {"alpha_pattern": {"q_proj": True}}),
    "a pattern that is none": (ConfigError, "is no pattern", {"alpha_pattern": {"(q_proj": 8}}),
    "a pattern that takes for ever": (ConfigError, "alpha_pattern holds", {"alpha_pattern": {"(q|q)*x": 8}}),
    "many repetitions": (ConfigError, "alpha_pattern holds", {"alpha_pattern": {".*.*.*.*x": 8}}),
    "tokens that are no rows": (ConfigError, "trainable_token_indices is", {"trainable_token_indices": [1, -1]}),
    "tokens twice": (ConfigError, "trainable_token_indices is", {"trainable_token_indices": [1, 1]}),
    "tokens in words": (ConfigError, "trainable_token_indices is", {"trainable_token_indices": "all"}),
    "PiSSA": (ConfigError, "init_lora_weights", {"init_lora_weights": "pissa"}),
    "transposed": (ConfigError, "fan_in_fan_out", {"fan_in_fan_out": True}),
    "another rank": (CheckpointError, "rank 4, .* says 8", {"r": 8}),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_merged_is_refused_by_name(case: str, tmp_path: Path, vicuna: Path, tower: Path) -> None:
    kind, told, changes = REFUSED[case]
    source = lora_folder(tmp_path / "lora", **changes)
    with pytest.raises(kind, match=told):
        converted(source, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))


WRAPPED = "base_model.model.model"
ADAPTER = f"{WRAPPED}.layers.0.self_attn.q_proj"
DAMAGES: dict[str, tuple[str, Callable[[Arrays], object]]] = {
    "half a pair": ("no pair", lambda t: t.pop(f"{ADAPTER}.lora_B.weight")),
    "another shape": ("is for", lambda t: t.update({f"{ADAPTER}.lora_B.weight": np.ones((9, RANK), np.float32)})),
    "a magnitude": ("use_dora and the mag", lambda t: t.update({f"{ADAPTER}.lora_magnitude_vector": np.ones(3)})),
    "half an embedding's": (
        "no pair",
        lambda t: t.update({f"{WRAPPED}.embed_tokens.lora_embedding_A": np.ones((RANK, 576))}),
    ),
    "of a foreign layer": (
        "not a tensor of a LLaVA",
        lambda t: t.update({f"base_model.model.x.lora_{kind}.weight": np.ones((RANK, RANK)) for kind in "AB"}),
    ),
    "another kind": ("kind of adapter", lambda t: t.update({f"{ADAPTER}.lora_E": np.ones(3)})),
    "a layer twice": (
        "a second one",
        lambda t: t.update({key.replace("model.model.layers", "model.layers"): t[key] for key in [*t]}),
    ),
    "trained tokens that the config does not name": (
        "names none",
        lambda t: t.update({f"{WRAPPED}.embed_tokens.token_adapter.trainable_tokens_delta": np.ones((1, 1))}),
    ),
    "another layer": (
        "is missing",
        lambda t: t.update({key.replace("layers.0", "layers.9"): t[key] for key in [*t] if ADAPTER in key}),
    ),
    "a foreign tensor": ("not a tensor of a LLaVA", lambda t: t.update({"base_model.model.router.weight": np.ones(3)})),
    "a projector in both files": ("two files|there twice", lambda t: t.update(wrapped(projector()))),
    "not finite": ("NaN", lambda t: t.update({f"{ADAPTER}.lora_A.weight": np.full((RANK, 128), np.nan, np.float32)})),
    "no adapters": (
        "or neither",
        lambda t: t.clear() or t.update({"base_model.model.model.norm.weight": np.ones(64)}),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_adapters_are_refused(damage: str, tmp_path: Path, vicuna: Path, tower: Path) -> None:
    told, change = DAMAGES[damage]
    source, tensors = lora_folder(tmp_path / "lora"), wrapped(adapters())
    change(tensors)
    write_bin(source / "adapter_model.bin", tensors)
    with pytest.raises(LlavaError, match=told):
        converted(source, tmp_path / "out", model_base=str(vicuna), vision_tower=str(tower))
    assert not (tmp_path / "out").exists()


def test_a_base_is_required_for_adapters_only(tmp_path: Path, vicuna: Path) -> None:
    source = lora_folder(tmp_path / "lora")
    with pytest.raises(UsageError, match="adapters without their base"):
        converted(source, tmp_path / "out")
    with pytest.raises(UsageError, match="a whole model"):
        converted(vicuna, tmp_path / "out", model_base=str(vicuna))
    (source / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match="without adapter_model"):
        converted(source, tmp_path / "out", model_base=str(vicuna))


@pytest.mark.parametrize(("kind", "depth"), [("linear", 1), ("mlp2x_gelu", 2)])
def test_a_new_projector_joins_a_text_model_and_a_tower(
    kind: str, depth: int, tmp_path: Path, vicuna: Path, tower: Path
) -> None:
    def joined(name: str, seed: int) -> Path:
        return converted(vicuna, tmp_path / name, vision_tower=str(tower), new_projector=kind, seed=seed)

    one, again, other = (values(joined(name, seed)) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert all((one[name] == again[name]).all() for name in one)
    assert {name for name in one if (one[name] != other[name]).any()} == {n for n in one if n.startswith("projector.")}
    config = load(tmp_path / "a").config
    assert (config.projector_depth, config.feature_layers, config.template) == (depth, (-2,), "vicuna_v1")
    assert (config.image.side, config.image.fit) == (8, "crop")
    for n, inputs in ((1, 32), (2, 128))[:depth]:  # torch.nn.Linear: uniform within 1/√inputs
        weight, bias = one[f"projector.linear_{n}.weight"], one[f"projector.linear_{n}.bias"]
        assert abs(weight).max() == pytest.approx(inputs**-0.5, rel=0.01)
        assert weight.std() == pytest.approx((3 * inputs) ** -0.5, rel=0.05)
        assert 0.8 * inputs**-0.5 < abs(bias).max() <= inputs**-0.5
    source = original()["model.layers.0.mlp.up_proj.weight"]
    np.testing.assert_array_equal(one["language_model.layers.0.mlp.up_proj.weight"], source)


def test_a_new_projector_is_refused_elsewhere(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    llava = save(tmp_path / "llava", arrays())
    with pytest.raises(UsageError, match="--seed is for --new-projector"):
        converted(llava, tmp_path / "out", seed=1)
    with pytest.raises(ConversionError, match="not a text model"):
        converted(llava, tmp_path / "out", new_projector="linear")
    whole = save(tmp_path / "whole", original(), ORIGINAL)
    with pytest.raises(UsageError, match="a LLaVA already"):
        converted(whole, tmp_path / "out", new_projector="linear", vision_tower=str(tower))
    with pytest.raises(UsageError, match="without --vision-tower"):
        converted(vicuna, tmp_path / "out", new_projector="linear")


def test_another_base_than_the_adapters_name_is_noted(tmp_path: Path, vicuna: Path, tower: Path) -> None:
    for name, told in (("liuhaotian/llava-v1.5-7b", True), (f"elsewhere/{vicuna.name}", False), (7, False)):
        source = lora_folder(tmp_path / f"lora-{told}-{type(name).__name__}", base_model_name_or_path=name)
        out = converted(source, tmp_path / f"out-{source.name}", model_base=str(vicuna), vision_tower=str(tower))
        assert ("note: adapter_config.json names another base" in (out / "README.md").read_text()) == told
