"""`mlx-llava fuse`: one folder that answers like the model with its adapter."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from checkpoints import arrays, converted, save
from lessons import LORA

from mlx_llava.checkpoint import adapters
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.errors import CheckpointError, ConversionError, UsageError
from mlx_llava.fuse import FuseOptions, fuse
from mlx_llava.inputs import Batch, Example, ImageSpan, collate
from mlx_llava.models.lora import LAYERS, attach

QUANTIZED: dict[str, dict[str, Any]] = {
    "not quantized": {},
    "4 bits": {"quantize": True},
    "mxfp8": {"quantize": True, "q_mode": "mxfp8"},
    "nvfp4, all": {"quantize": True, "q_mode": "nvfp4", "q_tower": True},
}


def question() -> Batch:
    tokens = np.array([1, 5, 30, 30, 30, 30, 9, 7], np.int32)
    slots = np.array([-1, -1, 0, 1, 2, 3, -1, -1], np.int32)
    crops = np.random.default_rng(0).standard_normal((1, 8, 8, 3)).astype(np.float32)
    return collate([Example(tokens, slots, np.zeros(tokens.shape, bool), crops, (ImageSpan("", 2, 0, 4),))])


def tune(model: Path, folder: Path, *, lora: bool = True, base: str | None = None) -> Path:
    """Trained adapters, or a trained projector."""
    checkpoint = load(model)
    mx.random.seed(1)
    if lora:
        attach(checkpoint.model, LORA)
    moved = {
        name: 0.2 * mx.random.normal(module.lora_b.shape)
        for name, module in checkpoint.model.named_modules()
        if "lora_b" in module
    }
    checkpoint.model.load_weights([(f"{name}.lora_b", value) for name, value in moved.items()], strict=False)
    if not lora:
        layer = checkpoint.model.projector["linear_1"]
        layer.weight = layer.weight + 0.1 * mx.random.normal(layer.weight.shape)
    folder.mkdir()
    form = LORA if lora else None
    adapters.save(folder, checkpoint.model, form, base or fingerprint(model), projector=not lora)
    return folder


def fused(model: Path, folder: Path, target: Path, **options: Any) -> Path:
    fuse(FuseOptions(model=str(model), adapter_path=folder, mlx_path=target, **options))
    return target


def dequantized(layer: nn.QuantizedLinear) -> mx.array:
    form = (layer.group_size, layer.bits, layer.mode)
    return mx.dequantize(layer.weight, layer.scales, layer.get("biases"), *form, dtype=mx.float32)


def both(model: Path, folder: Path) -> Checkpoint:
    checkpoint = load(model)
    adapters.load(folder, checkpoint.model, fingerprint(model))
    return checkpoint


def spread(ours: Checkpoint, theirs: Checkpoint) -> float:
    """The largest difference between logits, as a share of their size."""
    a, b = ours.model(question()), theirs.model(question())
    return float(np.array(mx.abs(a - b).max() / mx.abs(b).max()))


@pytest.mark.parametrize("name", QUANTIZED)
def test_the_merged_folder_answers_like_the_model_with_its_adapter(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    model = converted(source, tmp_path / "model", dtype="float32", **QUANTIZED[name])
    folder = tune(model, tmp_path / "adapters")
    out = fused(model, folder, tmp_path / "out", dequantize=True)
    assert spread(load(out), both(model, folder)) < 1e-5  # float32, sums in another order
    assert not load(out).quantized


@pytest.mark.parametrize("name", [name for name in QUANTIZED if name != "not quantized"])
def test_a_quantized_model_is_quantized_again_and_the_rest_is_copied(name: str, tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    model = converted(source, tmp_path / "model", **QUANTIZED[name])
    folder = tune(model, tmp_path / "adapters")
    out = fused(model, folder, tmp_path / "out")
    before, after = load(model), load(out)
    assert after.quantized == before.quantized
    tuned = both(model, folder)
    for path, module in tuned.model.named_modules():
        if "lora_a" in module:
            merged = dequantized(module.linear) + module.scale * (module.lora_a @ module.lora_b).T
            expected = mx.quantize(merged, **vars(before.quantized[path]))
            layer = dict(after.model.named_modules())[path]
            # the product in float32 may fall on the other side of a rounding edge
            assert np.mean(np.array(expected[0] == layer["weight"])) > 0.98, path
    unchanged = {key for key in read_index(model) if not key.rpartition(".")[0].endswith(LAYERS)}
    assert len(unchanged) > 30
    assert_same_bytes(model, out, unchanged)


def assert_same_bytes(one: Path, other: Path, names: set[str]) -> None:
    a, b = read_index(one), read_index(other)
    assert a.keys() == b.keys()
    with Reader() as reader:
        for name in names:
            assert reader.rows(a[name]).tobytes() == reader.rows(b[name]).tobytes(), name


def test_another_quantization_can_be_chosen(tmp_path: Path) -> None:
    model = converted(save(tmp_path / "source", arrays()), tmp_path / "model", quantize=True)
    folder = tune(model, tmp_path / "adapters")
    wide = load(fused(model, folder, tmp_path / "wide", dequantize=True))
    out = load(fused(model, folder, tmp_path / "out", quantize=True, q_bits=8, q_group_size=32))
    assert {(q.bits, q.group_size) for q in out.quantized.values()} == {(8, 32)}
    modules = dict(wide.model.named_modules())
    for path, layer in out.model.named_modules():
        if path in out.quantized:
            assert mx.array_equal(mx.quantize(modules[path].weight, 32, 8)[0], layer["weight"]), path


def test_layers_that_cannot_be_quantized_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = converted(save(tmp_path / "source", arrays()), tmp_path / "model")
    folder = tune(model, tmp_path / "adapters")
    fused(model, folder, tmp_path / "out", quantize=True, q_group_size=128)
    assert "14 of 16 layers quantized: 4 bits affine, groups of 128\nnote: 2 layers" in capsys.readouterr().err
    assert "14 of 16 layers" in (tmp_path / "out" / "README.md").read_text()


def test_a_projector_alone_is_merged_too(tmp_path: Path) -> None:
    model = converted(save(tmp_path / "source", arrays()), tmp_path / "model", quantize=True)
    folder = tune(model, tmp_path / "adapters", lora=False)
    out = fused(model, folder, tmp_path / "out")
    tuned = "projector.linear_1.weight"
    assert_same_bytes(model, out, set(read_index(model)) - {tuned})
    ours, expected = (values.model.projector["linear_1"].weight for values in (load(out), both(model, folder)))
    assert mx.array_equal(ours, expected)
    assert spread(load(out), load(model)) > 0.01
    assert json.loads((out / "config.json").read_text())["mlx_llava"]["source"]["adapters"] == str(folder)


def test_adapters_of_another_base_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    model = converted(save(tmp_path / "source", arrays()), tmp_path / "model")
    folder = tune(model, tmp_path / "adapters", base="another")
    with pytest.raises(CheckpointError, match="belong to another model"):
        fused(model, folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"source", "model", "adapters"}


def test_flags_that_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    for options in ({"dequantize": True, "quantize": True}, {"q_bits": 4}, {"quantize": True, "q_bits": 7}):
        with pytest.raises(UsageError):
            fused(tmp_path / "model", tmp_path, tmp_path / "out", **options)
    (tmp_path / "old").mkdir()
    with pytest.raises(ConversionError, match="already exists"):
        fused(tmp_path / "model", tmp_path / "adapters", tmp_path / "old")
    for model, folder in (("old", "adapters"), ("model", "old/adapters")):
        with pytest.raises(ConversionError, match="which is still needed"):
            fused(tmp_path / model, tmp_path / folder, tmp_path / "old", overwrite=True)
