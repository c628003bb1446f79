"""A folder of adapters: what it must be to be loaded, and what it leaves when it is not."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from lessons import LORA, adapted, batch, lessons, tiny, values
from spine import CASES, write_checkpoint

from mlx_llava.checkpoint.adapters import ADAPTERS, CONFIG, PROJECTOR, load, load_projector, save
from mlx_llava.checkpoint.fingerprint import fingerprint
from mlx_llava.checkpoint.safetensors import read_header
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, UsageError
from mlx_llava.models.lora import LAYERS, Lora
from mlx_llava.training.loss import answer_loss

BASE = "a fingerprint"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Adapters and projector as saved from a model."""
    save(tmp_path, adapted(tiny()), LORA, BASE, projector=True)
    return tmp_path


def rewrite(file: Path, change: Callable[[dict[str, mx.array]], object]) -> None:
    tensors: Any = mx.load(str(file))
    mx.eval(tensors)
    change(tensors)
    mx.save_safetensors(str(file), tensors)


def reconfigure(folder: Path, section: str | None, **changes: object) -> None:
    config = json.loads((folder / CONFIG).read_text())
    (config[section] if section else config).update(changes)
    (folder / CONFIG).write_text(json.dumps(config))


def test_dropout_works_in_training_and_is_off_in_answers(folder: Path) -> None:
    wet = Lora(rank=4, alpha=8.0, dropout=0.5)
    model, one = adapted(tiny(), wet), batch(*lessons())
    assert not mx.array_equal(model(one), model(one))
    model.eval()
    assert mx.array_equal(model(one), model(one))
    reconfigure(folder, "lora_parameters", dropout=0.5)
    answering = tiny()
    answering.eval()
    load(folder, answering, BASE)
    assert mx.array_equal(answering(one), answering(one))


def test_adapters_saved_and_loaded_are_the_same_model(folder: Path) -> None:
    model = adapted(tiny())
    model.projector["linear_1"].weight = model.projector["linear_1"].weight + 1
    save(folder, model, LORA, BASE, projector=True)
    other = tiny()
    assert load(folder, other, BASE) == LORA
    ours, theirs = values(model), values(other)
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)
    one = batch(*lessons())
    assert float(answer_loss(model, one)[0]) == float(answer_loss(other, one)[0])


def test_the_folder_has_the_names_that_mlx_lm_gives(folder: Path) -> None:
    config = json.loads((folder / CONFIG).read_text())
    assert config["fine_tune_type"] == "lora"
    assert config["num_layers"] == 3
    assert config["lora_parameters"] == {"rank": 4, "scale": 2.0, "dropout": 0.0, "keys": list(LAYERS)}
    assert all(name.endswith((".lora_a", ".lora_b")) for name in read_header(folder / ADAPTERS))
    assert read_header(folder / PROJECTOR).keys() == {n for n in values(tiny()) if n.startswith("projector.")}


def test_without_a_trained_projector_the_folder_holds_none(tmp_path: Path) -> None:
    save(tmp_path, adapted(tiny()), LORA, BASE, projector=False)
    assert {file.name for file in tmp_path.iterdir()} == {ADAPTERS, CONFIG}
    load(tmp_path, model := tiny(), BASE)
    assert mx.array_equal(model.projector["linear_1"].weight, tiny().projector["linear_1"].weight)


def test_a_projector_alone_is_an_adapter_folder_of_rank_0(tmp_path: Path) -> None:
    model = tiny()
    model.projector["linear_1"].weight = model.projector["linear_1"].weight + 1
    save(tmp_path, model, None, BASE, projector=True)
    assert {file.name for file in tmp_path.iterdir()} == {PROJECTOR, CONFIG}
    for read in (load, load_projector):
        other = tiny()
        assert read(tmp_path, other, BASE) is None
        ours, theirs = values(model), values(other)
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_a_projector_that_was_trained_with_adapters_does_not_go_without_them(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="adapters too"):
        load_projector(folder, tiny(), BASE)


A = "language_model.layers.0.self_attn.q_proj.lora_a"
FAULTS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "no adapter at all": ("missing", lambda f: rewrite(f / ADAPTERS, lambda t: (t.clear(), t.update(x=mx.ones(1))))),
    "one is missing": ("missing", lambda f: rewrite(f / ADAPTERS, lambda t: t.pop(A))),
    "another tensor": ("not part", lambda f: rewrite(f / ADAPTERS, lambda t: t.update({"lm_head.weight": mx.ones(1)}))),
    "a tower adapter": ("not part", lambda f: rewrite(f / ADAPTERS, lambda t: t.update({"vision_tower.lora_a": t[A]}))),
    "transposed": ("another form", lambda f: rewrite(f / ADAPTERS, lambda t: t.update({A: t[A].T}))),
    "integers": ("another form", lambda f: rewrite(f / ADAPTERS, lambda t: t.update({A: t[A].astype(mx.int32)}))),
    "not finite": ("not finite", lambda f: rewrite(f / ADAPTERS, lambda t: t.update({A: t[A] / 0}))),
    "projector not finite": (
        "not finite",
        lambda f: rewrite(f / PROJECTOR, lambda t: t.update({"projector.linear_2.bias": mx.full((64,), mx.nan)})),
    ),
    "Llama in the projector's file": (
        "not part",
        lambda f: rewrite(f / PROJECTOR, lambda t: t.update({"language_model.norm.weight": mx.ones(64)})),
    ),
    "no projector file": ("projector.safetensors", lambda f: (f / PROJECTOR).unlink()),
    "a projector that nobody declared": (
        "not declared",
        lambda f: reconfigure(f, "mlx_llava", projector=False),
    ),
    "adapters that nobody declared": (
        "not declared",
        lambda f: reconfigure(f, "lora_parameters", rank=0, scale=0.0, keys=[]),
    ),
    "nothing at all": (
        "neither",
        lambda f: (
            (f / ADAPTERS).unlink(),
            (f / PROJECTOR).unlink(),
            reconfigure(f, "lora_parameters", rank=0, scale=0.0, keys=[]),
            reconfigure(f, "mlx_llava", projector=False),
        ),
    ),
    "another base": ("another model", lambda f: reconfigure(f, "mlx_llava", base="other")),
    "another rank": ("another form", lambda f: reconfigure(f, "lora_parameters", rank=8, scale=1.0)),
    "another scale": ("scale", lambda f: reconfigure(f, "lora_parameters", scale=20.0)),
    "other layers": ("keys", lambda f: reconfigure(f, "lora_parameters", keys=["self_attn.q_proj"])),
    "DoRA": ("fine_tune_type", lambda f: reconfigure(f, None, fine_tune_type="dora")),
    "fewer blocks": ("num_layers", lambda f: reconfigure(f, None, num_layers=2)),
    "a newer format": ("format", lambda f: reconfigure(f, "mlx_llava", format=3)),
    "an unknown key": ("not implemented", lambda f: reconfigure(f, "mlx_llava", rslora=True)),
    "no fingerprint": ("base is missing", lambda f: reconfigure(f, "mlx_llava", base=None)),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_folder_with_a_fault_is_refused_and_the_model_stays_as_it_was(folder: Path, fault: str) -> None:
    told, damage = FAULTS[fault]
    damage(folder)
    model, before = tiny(), values(tiny())
    with pytest.raises(CheckpointError, match=told):
        load(folder, model, BASE)
    after = values(model)
    assert after.keys() == before.keys()
    assert all(np.array_equal(after[name], before[name]) for name in before)


def test_adapters_on_adapters_are_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="adapters already"):
        load(folder, adapted(tiny()), BASE)


def test_a_fingerprint_tells_models_apart_and_not_how_they_are_cut_into_files(
    converted: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_checkpoint(CASES["plain"], tmp_path / "released")
    whole = converted(tmp_path / "released")
    monkeypatch.setattr("mlx_llava.convert.weights.writer.MAX_SHARD", 100_000)

    def again(name: str, **options: Any) -> Path:
        given = ConvertOptions(hf_path=str(tmp_path / "released"), mlx_path=tmp_path / name, **options)
        write(prepare(given))
        return given.mlx_path

    shards = again("shards", dtype="float32")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert fingerprint(shards) == fingerprint(whole)
    assert fingerprint(again("half", dtype="float16")) != fingerprint(whole)
    for file, old, new in (
        ("tokenizer.json", '"id"', '"id" '),
        ("config.json", '"rms_norm_eps": ', '"rms_norm_eps": 1'),
    ):
        before = (shards / file).read_text()
        assert old in before
        (shards / file).write_text(before.replace(old, new))
        assert fingerprint(shards) != fingerprint(whole), file
        (shards / file).write_text(before)
    assert fingerprint(again("other", dtype="float32", template="llava_v1")) == fingerprint(whole)  # training says it
    rewrite(min(shards.glob("*.safetensors")), lambda t: t.update({name: 1.01 * t[name] for name in [*t][:1]}))
    assert fingerprint(shards) != fingerprint(whole)
