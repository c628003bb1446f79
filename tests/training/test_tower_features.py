"""Cached features: the same bits with and without them, no image opened twice, no damaged file trusted."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from spine import EMBEDDED

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.config import LlavaConfig
from mlx_llava.data.feature_files import DIGEST, FeatureBatch, FeatureFiles
from mlx_llava.inputs import Batch
from mlx_llava.lora import lora
from mlx_llava.models.clip import VisionTower
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.options import LoraOptions, config_of
from mlx_llava.training.prepare import load_examples
from mlx_llava.training.tower_features import add_features, open_feature_files, tower_fingerprint

EXAMPLES = EMBEDDED / "examples"
NAMES = ("one_shape.png", "three_shapes.png", "two_shapes_wide.png")


@pytest.fixture
def options(converted: Callable[[Path], Path], tmp_path: Path) -> LoraOptions:
    rows = [
        {
            "image": name,
            "conversations": [{"from": "human", "value": "What?\n<image>"}, {"from": "gpt", "value": f"{n} shapes"}],
        }
        for n, name in enumerate(NAMES)
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    return LoraOptions(
        data=tmp_path / "train.json",
        adapter_path=tmp_path / "out",
        images=EXAMPLES,
        model=str(converted(EMBEDDED)),
        rank=2,
        epochs=2,
        batch_size=2,
        accumulation=1,
        save_every=100,
        workers=0,
        cache_features=tmp_path / "features",
    )


def batch_of(options: LoraOptions, checkpoint: Checkpoint) -> Batch:
    return load_examples(options, checkpoint, "train").batch([0, 1, 2])


def features_of(batch: Batch) -> NDArray[Any]:
    assert isinstance(batch, FeatureBatch)
    assert batch.features is not None
    return batch.features


def files_of(options: LoraOptions, checkpoint: Checkpoint) -> FeatureFiles:
    assert options.cache_features is not None
    return open_feature_files(options.cache_features, checkpoint.model, config_of(options, checkpoint.config))


def test_a_cached_batch_has_no_pixels_and_the_same_loss(options: LoraOptions, embedded: Checkpoint) -> None:
    model, files = embedded.model, files_of(options, embedded)
    plain = batch_of(replace(options, cache_features=None), embedded)
    first = batch_of(options, embedded)
    assert isinstance(first, FeatureBatch)
    assert first.features is None
    computed = add_features(model, files, first)
    cached = batch_of(options, embedded)
    assert len(features_of(cached)) == 3
    assert not len(cached.crops)
    assert add_features(model, files, cached) is cached
    losses = [float(answer_loss(model, batch)[0]) for batch in (plain, computed, cached)]
    assert losses[1] == losses[2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)  # encoded together; a BLAS sums in another order


def test_a_second_epoch_and_a_second_run_never_run_the_tower_and_end_with_the_same_bits(
    options: LoraOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = replace(options, adapter_path=options.adapter_path.with_name("again"))
    calls, call = [], VisionTower.states
    monkeypatch.setattr(VisionTower, "states", lambda *arguments: calls.append(1) or call(*arguments))
    assert lora(options) == 0
    assert lora(again) == 0
    assert len(calls) == len(NAMES)
    for name in ("adapters.safetensors", "projector.safetensors"):
        assert (options.adapter_path / name).read_bytes() == (again.adapter_path / name).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flipped", "longer", "another's", "gone"])
def test_a_damaged_or_foreign_file_is_computed_again(options: LoraOptions, embedded: Checkpoint, damage: str) -> None:
    files = files_of(options, embedded)
    computed = add_features(embedded.model, files, batch_of(options, embedded))
    key, other = (str(files.key(EXAMPLES / name)) for name in NAMES[:2])
    path = files.folder / key[:2] / key
    data = path.read_bytes()
    flipped = data[:DIGEST] + bytes([data[DIGEST] ^ 1]) + data[DIGEST + 1 :]
    wrong = {"cut": data[:-4], "flipped": flipped, "longer": data + data[-4:]}
    wrong["another's"] = (files.folder / other[:2] / other).read_bytes()
    path.unlink() if damage == "gone" else path.write_bytes(wrong[damage])
    assert files.read(key) is None
    again = add_features(embedded.model, files, batch_of(options, embedded))
    np.testing.assert_array_equal(features_of(again), features_of(computed))
    assert path.read_bytes() == data


def test_another_tower_or_preprocessing_has_another_fingerprint(embedded: Checkpoint) -> None:
    model, config = embedded.model, embedded.config

    def changed(**image: object) -> LlavaConfig:
        return replace(config, image=replace(config.image, **image))

    before = tower_fingerprint(model, config)
    assert tower_fingerprint(model, changed(fit="pad" if config.image.fit == "crop" else "crop")) != before
    assert tower_fingerprint(model, changed(mean=(0.1, 0.2, 0.3))) != before
    norm = model.vision_tower.pre_layrnorm
    weight = norm.weight
    try:
        norm.weight = weight.at[0].add(1e-6)
        assert tower_fingerprint(model, config) != before
    finally:
        norm.weight = weight
    assert tower_fingerprint(model, config) == before


def test_a_changed_image_has_another_key_and_a_missing_one_none(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path, "tower", (2, 3), "float32")
    image = tmp_path / "a.png"
    image.write_bytes(b"one")
    first = files.key(image)
    image.write_bytes(b"two")
    assert files.key(image) not in (first, None)
    assert files.key(tmp_path / "nowhere.png") is None


def test_features_in_half_precision_keep_their_bits(options: LoraOptions, embedded: Checkpoint) -> None:
    model, plain = embedded.model, batch_of(replace(options, cache_features=None), embedded)
    weights = model.parameters()
    try:
        model.set_dtype(mx.bfloat16)
        first = add_features(model, files_of(options, embedded), batch_of(options, embedded))
        cached = features_of(batch_of(options, embedded))
        assert cached.dtype == np.uint16
        np.testing.assert_array_equal(cached, features_of(first))
        features = model.vision_features(model.vision_states(plain.crops))
        assert mx.abs(mx.array(cached).view(mx.bfloat16) - features).max() < 0.1  # batched, in eight bits
    finally:
        model.update(weights)
