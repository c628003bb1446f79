"""The whole model against transformers' LlavaForConditionalGeneration in fp32, from folders that it saved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from record import Reference, build, greedy, hidden_states, logits
from safetensors.numpy import load_file, save_file
from spine import CASES, GOLDEN, Case, add_tokenizer, last_rows, prompts, together

from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.inputs import collate

Pair = tuple[str, Reference, Checkpoint]


@pytest.fixture(scope="module", params=CASES)
def pair(
    request: pytest.FixtureRequest, converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    """transformers' model, and ours converted from the folder that transformers saved."""
    folder = tmp_path_factory.mktemp("saved")
    reference = build(CASES[request.param])
    reference.save_pretrained(folder)
    add_tokenizer(folder)
    return request.param, reference, load(converted(folder))


def test_logits_are_within_1e_4_at_every_position(pair: Pair) -> None:
    _, reference, checkpoint = pair
    rows = checkpoint.config.rows_per_crop
    for batch in (*(collate([example]) for example in prompts(rows).values()), together(rows)):
        ours, theirs = np.array(checkpoint.model(batch)), logits(reference, batch)
        for row, expected, length in zip(ours, theirs, batch.lengths, strict=True):
            np.testing.assert_allclose(row[:length], expected[:length], rtol=0, atol=1e-4)


def test_vision_features_are_within_1e_5_at_every_layer(pair: Pair) -> None:
    _, reference, checkpoint = pair
    crops = prompts(checkpoint.config.rows_per_crop)["one picture"].crops
    theirs = hidden_states(reference, crops)
    ours = checkpoint.model.vision_tower(mx.array(crops), range(len(theirs)))
    for state, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.array(state), expected, rtol=0, atol=1e-5)


def test_the_record_is_what_transformers_answers_now(pair: Pair) -> None:
    name, reference, checkpoint = pair
    rows, golden = checkpoint.config.rows_per_crop, np.load(GOLDEN)
    batch = together(rows)
    now = np.stack([*last_rows(batch, logits(reference, batch))])
    np.testing.assert_allclose(golden[f"{name}: logits"], now, rtol=0, atol=2e-5)  # torch on another CPU
    for kind, example in prompts(rows).items():
        assert greedy(reference, example) == golden[f"{name}: {kind}"].tolist()


def test_keys_of_every_generation_give_the_same_model(converted: Callable[[Path], Path], tmp_path: Path) -> None:
    build(Case()).save_pretrained(tmp_path / "saved")
    add_tokenizer(tmp_path / "saved")
    saved = load_file(tmp_path / "saved" / "model.safetensors")
    expected = dict(load(converted(tmp_path / "saved")).model.parameters())
    layouts = {
        "released": lambda n: n.replace("vision_tower.", "vision_tower.vision_model."),
        "in memory since 4.52": lambda n: (
            n.removeprefix("language_model.")
            if "lm_head" in n
            else "model." + n.replace("language_model.model.", "language_model.")
        ),
    }
    for layout, rename in layouts.items():
        folder = tmp_path / layout
        folder.mkdir()
        save_file({rename(name): value for name, value in saved.items()}, folder / "model.safetensors")
        (folder / "config.json").write_text((tmp_path / "saved" / "config.json").read_text())
        add_tokenizer(folder)
        assert_same_tree(load(converted(folder)).model.parameters(), expected)


def assert_same_tree(ours: Any, expected: Any) -> None:
    from mlx.utils import tree_flatten

    a, b = dict(tree_flatten(ours)), dict(tree_flatten(expected))
    assert a.keys() == b.keys()
    assert all(mx.array_equal(a[name], b[name]) for name in a)
