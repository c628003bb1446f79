"""Quantized weights are those of mx.quantize, bit for bit; casts lose nothing silently; pieces make no difference."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import mlx.core as mx
import numpy as np
import pytest
from checkpoints import CONFIG, EMBEDDING, HEAD, TEXT, VISION, Arrays, arrays, converted, save
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import quantize_model
from safetensors.numpy import load_file

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.checkpoint.quantization import MODES
from mlx_llava.checkpoint.reader import read_index
from mlx_llava.config import Dtype
from mlx_llava.convert.job import prepare
from mlx_llava.convert.options import ConvertOptions, Recipe
from mlx_llava.convert.weights import plan, writer
from mlx_llava.convert.weights.quantize import choose
from mlx_llava.errors import ConversionError, UsageError
from mlx_llava.models.llava import Llava

QUANTIZATIONS = [(mode, group, n) for mode, (groups, bits) in MODES.items() for group in groups for n in bits]
UP, DOWN = "language_model.layers.0.mlp.up_proj", "language_model.layers.0.mlp.down_proj"  # rows of 128, and of 192


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("checkpoint") / "source", arrays())


def stored(folder: Path) -> dict[str, mx.array]:
    """All tensors of a converted folder."""
    tensors: dict[str, mx.array] = {}
    for file in folder.glob("*.safetensors"):
        tensors |= mx.load(str(file))  # pyright: ignore
    return tensors


def their_name(path: str) -> str:
    return HEAD if path.endswith("lm_head") else f"language_model.model.{path.removeprefix('language_model.')}.weight"


def test_every_mode_of_mlx_is_tried() -> None:
    assert len(QUANTIZATIONS) == 3 * 6 + 3


@pytest.mark.parametrize(("mode", "group_size", "bits"), QUANTIZATIONS)
def test_quantized_weights_are_those_of_mx_quantize_bit_for_bit(
    mode: str, group_size: int, bits: int, source: Path, tmp_path: Path
) -> None:
    flags = {"q_mode": mode, "q_group_size": group_size, "q_bits": bits, "dtype": "float16"}
    out = stored(converted(source, tmp_path / "out", quantize=True, **flags))
    theirs = arrays()
    quantized = [name.removesuffix(".scales") for name in out if name.endswith(".scales")]
    assert {UP, "language_model.lm_head", "language_model.embed_tokens"} <= set(quantized)
    assert (DOWN in quantized) == (192 % group_size == 0)
    for path in quantized:
        whole = mx.array(theirs[their_name(path)]).astype(mx.float16)
        expected = mx.quantize(whole, group_size=group_size, bits=bits, mode=mode)
        for part, values in zip(("weight", "scales", "biases"), expected, strict=False):
            assert mx.array_equal(out[f"{path}.{part}"], values), f"{path}.{part}"
        assert (f"{path}.biases" in out) == (mode == "affine")


def test_without_a_flag_the_modes_take_the_defaults_of_mlx(source: Path, tmp_path: Path) -> None:
    for mode, expected in {"affine": (64, 4), "mxfp4": (32, 4), "nvfp4": (16, 4), "mxfp8": (32, 8)}.items():
        checkpoint = load(converted(source, tmp_path / mode, quantize=True, q_mode=mode))
        assert {(q.group_size, q.bits, q.mode) for q in checkpoint.quantized.values()} == {(*expected, mode)}


def test_rows_that_do_not_divide_into_groups_stay_as_they_are(source: Path, tmp_path: Path) -> None:
    checkpoint = load(converted(source, tmp_path / "out", quantize=True, q_group_size=128))
    assert UP in checkpoint.quantized
    assert DOWN not in checkpoint.quantized
    np.testing.assert_array_equal(
        stored(tmp_path / "out")[f"{DOWN}.weight"], arrays()[f"language_model.model.{DOWN.partition('.')[2]}.weight"]
    )


def test_layers_that_stay_as_they_are_are_counted_with_the_group_size_that_fits(source: Path, tmp_path: Path) -> None:
    options = ConvertOptions(hf_path=str(source), mlx_path=tmp_path / "out", quantize=True, q_group_size=128)
    lines = [*prepare(options).lines()]
    assert lines[1].endswith("as float32; 14 of 16 layers quantized: 4 bits affine, groups of 128")
    note = "2 layers are not quantized: rows of 192 do not divide into groups of 128; use --q-group-size 64"
    assert f"note: {note}" in lines
    assert not any("note" in line for line in prepare(replace(options, q_group_size=64)).lines())


NOTHING_FITS: dict[str, tuple[int, dict[str, Any], str]] = {
    "the default": (96, {}, "groups of 64\nUse --q-group-size 32."),
    "a flag": (96, {"q_group_size": 128}, "groups of 128\nUse --q-group-size 32."),
    "a recipe": (96, {"q_recipe": "mixed_4_6"}, "groups of 64\nUse --q-group-size 32."),
    "the tower too": (96, {"q_tower": True, "q_group_size": 128}, "groups of 128\nUse --q-group-size 32."),
    "a mode": (80, {"q_mode": "mxfp4"}, "groups of 32\nNo group size of mxfp4 fits."),
}


@pytest.mark.parametrize("case", NOTHING_FITS)
def test_quantizing_no_layer_is_an_error_that_names_the_group_size_that_fits(case: str) -> None:
    width, flags, expected = NOTHING_FITS[case]
    text = {**TEXT, "hidden_size": width, "intermediate_size": width}
    vision = {**VISION, "hidden_size": width, "intermediate_size": width}
    model = Llava(from_hf({**CONFIG, "text_config": text, "vision_config": vision}))
    options = ConvertOptions(hf_path="", mlx_path=Path(), quantize=True, **flags)
    with pytest.raises(UsageError, match=rf"^-q quantizes none of the \d+ layers: rows of {width} .*{expected}$"):
        choose(model, options)


def paths(checkpoint: Checkpoint, part: str) -> set[str]:
    return {path for path in checkpoint.quantized if path.startswith(part)}


def test_the_tower_and_the_projector_are_quantized_on_request(source: Path, tmp_path: Path) -> None:
    plain = load(converted(source, tmp_path / "plain", quantize=True, q_group_size=32))
    whole = load(converted(source, tmp_path / "whole", quantize=True, q_group_size=32, q_tower=True))
    assert not paths(plain, "vision_tower") | paths(plain, "projector")
    assert len(paths(whole, "vision_tower")) == 2 * 6
    assert len(paths(whole, "projector")) == 2
    assert paths(plain, "language_model") == paths(whole, "language_model")


@pytest.mark.parametrize("recipe", Recipe.__args__)
def test_a_recipe_gives_each_layer_the_bits_that_mlx_lm_gives_it(recipe: Any, tmp_path: Path) -> None:
    config = {**CONFIG, "text_config": {**TEXT, "num_hidden_layers": 8}}
    source = save(tmp_path / "source", arrays(num_layers=8), config)
    ours = load(converted(source, tmp_path / "out", quantize=True, q_recipe=recipe, q_tower=True, q_group_size=32))
    text = Llava(from_hf(config)).language_model
    predicate: Any = mixed_quant_predicate_builder(recipe, text, 32)
    quantize_model(text, {}, 32, 4, quant_predicate=predicate)
    theirs = {f"language_model.{p}": m.bits for p, m in text.named_modules() if hasattr(m, "bits")}
    assert {path: ours.quantized[path].bits for path in paths(ours, "language_model")} == theirs
    assert {ours.quantized[p].bits for p in paths(ours, "vision_tower") | paths(ours, "projector")} == {
        theirs["language_model.lm_head"]
    }


def hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_pieces_of_a_tensor_give_the_same_bytes_as_the_whole(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = hashes(converted(source, tmp_path / "whole", quantize=True))
    monkeypatch.setattr(plan, "ROWS_BYTES", 5000)  # 9 rows of 128 numbers
    assert hashes(converted(source, tmp_path / "pieces", quantize=True)) == whole


def test_the_same_conversion_twice_gives_the_same_bytes(source: Path, tmp_path: Path) -> None:
    assert hashes(converted(source, tmp_path / "one", q_tower=True, quantize=True)) == hashes(
        converted(source, tmp_path / "two", q_tower=True, quantize=True)
    )


def test_output_in_shards_has_an_index_that_names_them_all(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = converted(source, tmp_path / "whole", quantize=True)
    monkeypatch.setattr(writer, "MAX_SHARD", 100_000)
    shards = converted(source, tmp_path / "shards", quantize=True)
    assert len(list(shards.glob("model-*.safetensors"))) > 3
    assert max(path.stat().st_size for path in shards.glob("*.safetensors")) < 150_000
    assert read_index(shards).keys() == read_index(whole).keys()
    left, right = stored(whole), stored(shards)
    assert all(mx.array_equal(left[name], right[name]) for name in left)
    load(shards)


def saved_as(folder: Path, dtype: str) -> Path:
    """The checkpoint in another dtype; NumPy has no bfloat16."""
    if dtype != "bfloat16":
        return save(folder, {name: values.astype(dtype) for name, values in arrays().items()})
    cast = {name: mx.array(values).astype(mx.bfloat16) for name, values in arrays().items()}
    mx.save_safetensors(str(save(folder, {}) / "model.safetensors"), cast, metadata={"format": "mlx"})
    return folder


@pytest.mark.parametrize("kept", [None, "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_every_float_becomes_every_float(dtype: str, kept: Dtype | None, tmp_path: Path) -> None:
    source = saved_as(tmp_path / "source", dtype)
    out = stored(converted(source, tmp_path / "out", dtype=kept))
    own = {"float64": "float32"}.get(dtype, dtype)
    expected = getattr(mx, kept or own)
    for name in ("language_model.embed_tokens.weight", "projector.linear_1.bias"):
        assert out[name].dtype == expected
    values = mx.array(arrays()[EMBEDDING]).astype(getattr(mx, own)).astype(expected)
    assert mx.array_equal(out["language_model.embed_tokens.weight"], values)


def with_one(value: float, name: str, dtype: str = "float32") -> Arrays:
    """The weights with one value changed in the last row of a tensor."""
    made = arrays()
    made[name].reshape(-1)[-1] = value
    return {key: values.astype(dtype) if key == name else values for key, values in made.items()}


POISONED = [
    HEAD,
    "multi_modal_projector.linear_2.weight",
    "vision_tower.vision_model.embeddings.patch_embedding.weight",
]


@pytest.mark.parametrize("name", POISONED)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("quantize", [True, False])
def test_values_that_are_not_finite_are_refused_by_name(
    name: str, value: float, quantize: bool, tmp_path: Path
) -> None:
    source = save(tmp_path / "source", with_one(value, name))
    with pytest.raises(ConversionError, match=f"{name}, rows 0 to .*: 1 values are NaN or infinite"):
        converted(source, tmp_path / "out", quantize=quantize, q_tower=quantize)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("value", "kept"), [(65520.0, "float16"), (-1e30, "float16"), (3.4e38, "bfloat16")])
def test_a_value_that_overflows_is_refused_with_the_flag_that_helps(
    value: float, kept: Literal["float16", "bfloat16"], tmp_path: Path
) -> None:
    source = save(tmp_path / "source", with_one(value, HEAD))
    with pytest.raises(ConversionError, match=rf"1 values are too large for {kept}\n.*--dtype bfloat16 or float32"):
        converted(source, tmp_path / "out", dtype=kept)
    converted(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ({"quantize": True, "q_bits": 7}, "--q-bits 7: affine has 2, 3, 4, 5, 6, 8"),
        ({"quantize": True, "q_bits": 0}, "--q-bits 0"),
        ({"quantize": True, "q_group_size": 48}, "--q-group-size 48: affine has 32, 64, 128"),
        ({"quantize": True, "q_group_size": 0}, "--q-group-size 0"),
        ({"quantize": True, "q_mode": "nvfp4", "q_group_size": 32}, "nvfp4 has 16"),
        ({"quantize": True, "q_mode": "mxfp8", "q_bits": 4}, "mxfp8 has 8"),
        ({"quantize": True, "q_bits": 4, "q_recipe": "mixed_2_6"}, "exclude each other"),
        ({"quantize": True, "q_mode": "mxfp4", "q_recipe": "mixed_2_6"}, "--q-recipe is affine, not mxfp4"),
        ({"q_bits": 4}, "quantization flags without -q"),
        ({"q_bits": 0}, "quantization flags without -q"),
        ({"q_tower": True}, "quantization flags without -q"),
        ({"q_mode": "mxfp4"}, "quantization flags without -q"),
        ({"template": "nonsense"}, "no prompt template 'nonsense'"),
        ({"new_projector": "linear", "seed": -1}, "--seed -1 is out of range"),
    ],
)
def test_flags_that_do_not_fit_are_refused_before_anything_is_read(
    flags: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=said):
        prepare(ConvertOptions(hf_path="nowhere", mlx_path=tmp_path / "out", **flags))


def test_what_is_written_is_what_safetensors_reads(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out", quantize=True, q_mode="mxfp8", dtype="float16")
    tensors = load_file(out / "model.safetensors")
    assert tensors.keys() == read_index(out).keys()
    assert {values.dtype.name for values in tensors.values()} == {"uint8", "uint32", "float16"}
