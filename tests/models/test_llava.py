"""The whole model against what transformers answered (tests/parity records it), and against itself."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from numpy.typing import NDArray
from spine import ALL_LAYERS, ALL_ROWS, GOLDEN, NEW_TOKENS, last_rows, prompts, together

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.inference import generate
from mlx_llava.inference.cache import PrefixCache
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.sampling import CacheOptions, Sampling
from mlx_llava.inputs import TEXT, Example, collate

Small = tuple[str, Checkpoint]
GREEDY = Sampling(max_tokens=NEW_TOKENS)
# OpenBLAS has another kernel for the last rows of a product, so that it sums a row in an order that depends on how many
# there are: fp32 logits differ by at most 2.2e-5 here. With MKL they are equal.
SUMS = 1e-4


@pytest.fixture(scope="module")
def golden() -> Any:
    return np.load(GOLDEN)


def embed(checkpoint: Checkpoint, example: Example) -> mx.array:
    model = checkpoint.model
    features = model.features(model.vision_states(example.crops)) if len(example.crops) else None
    return model.embed(mx.array(example.tokens)[None], mx.array(example.slots)[None], features)[0]


def greedy(checkpoint: Checkpoint, example: Example) -> list[int]:
    cache = PrefixCache(checkpoint.model.language_model, CacheOptions())
    cache.reuse_prefix(example.tokens.tolist())
    steps = generate.stream(mx.array(example.tokens), embed(checkpoint, example), cache, GREEDY)
    return [token.id for token in steps]


def greedy_uncached(checkpoint: Checkpoint, example: Example) -> list[int]:
    model, x, ids = checkpoint.model.language_model, embed(checkpoint, example)[None], []
    for _ in range(NEW_TOKENS):
        ids.append(int(np.array(model.head(model.decode(x)[:, -1])).argmax()))
        x = mx.concatenate([x, model.embed(mx.array([[ids[-1]]]))], axis=1)
    return ids


def logits(checkpoint: Checkpoint, examples: Sequence[Example]) -> NDArray[np.float32]:
    return np.array(checkpoint.model(collate(examples)))


def test_logits_of_a_mixed_batch_equal_those_of_transformers(small: Small, golden: Any) -> None:
    name, checkpoint = small
    batch = together(checkpoint.config.rows_per_crop)
    ours = np.stack([*last_rows(batch, np.array(checkpoint.model(batch)))])
    np.testing.assert_allclose(ours, golden[f"{name}: logits"], rtol=0, atol=1e-4)  # fp32, sums in another order


@pytest.mark.parametrize("small", ALL_ROWS, indirect=True)
def test_every_logit_of_a_prompt_equals_that_of_transformers(small: Small, golden: Any) -> None:
    name, checkpoint = small
    one = prompts(checkpoint.config.rows_per_crop)["one picture"]
    np.testing.assert_allclose(logits(checkpoint, [one])[0], golden[f"{name}: all logits"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("small", ALL_LAYERS, indirect=True)
def test_vision_features_at_every_layer_equal_those_of_transformers(small: Small, golden: Any) -> None:
    name, checkpoint = small
    crops = prompts(checkpoint.config.rows_per_crop)["one picture"].crops
    expected = golden[f"{name}: all layers"]
    ours = checkpoint.model.vision_tower(mx.array(crops), range(len(expected)))
    np.testing.assert_allclose(np.stack([*map(np.array, ours)]), expected, rtol=0, atol=1e-5)


def test_greedy_tokens_equal_those_of_transformers(small: Small, golden: Any) -> None:
    name, checkpoint = small
    for kind, example in prompts(checkpoint.config.rows_per_crop).items():
        assert greedy(checkpoint, example) == golden[f"{name}: {kind}"].tolist(), kind


def test_greedy_tokens_are_the_same_without_a_cache(small: Small) -> None:
    for example in prompts(small[1].config.rows_per_crop).values():
        assert greedy_uncached(small[1], example) == greedy(small[1], example)


def test_greedy_tokens_are_the_same_when_the_prompt_is_read_in_chunks(
    small: Small, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = prompts(small[1].config.rows_per_crop)["two pictures in two turns"]
    whole = greedy(small[1], example)
    monkeypatch.setattr(generate, "PREFILL", 7)  # chunks that end inside pictures
    assert greedy(small[1], example) == whole


def test_greedy_tokens_are_the_same_in_a_batch(small: Small) -> None:
    checkpoint = small[1]
    examples = list(prompts(checkpoint.config.rows_per_crop).values())
    rows = [Prompt(e.tokens.tolist(), embed(checkpoint, e), NEW_TOKENS) for e in examples]
    answers = generate.batch(checkpoint.model.language_model, rows, GREEDY, stop=())
    assert [[token.id for token in answer] for answer in answers] == [greedy(checkpoint, e) for e in examples]


def test_an_answer_does_not_depend_on_its_neighbours_in_the_batch(small: Small) -> None:
    checkpoint = small[1]
    examples = list(prompts(checkpoint.config.rows_per_crop).values())
    together = logits(checkpoint, examples)
    for row, example in zip(together, examples, strict=True):
        alone = logits(checkpoint, [example])[0]
        np.testing.assert_allclose(row[: len(alone)], alone, rtol=0, atol=SUMS)


def test_a_later_token_moves_no_earlier_logit(small: Small) -> None:
    checkpoint = small[1]
    example = prompts(checkpoint.config.rows_per_crop)["one picture"]
    changed = replace(example, tokens=example.tokens.copy())
    changed.tokens[-3] = 5
    before, after = logits(checkpoint, [example])[0], logits(checkpoint, [changed])[0]
    assert np.abs(before[:-3] - after[:-3]).max() == 0.0
    assert np.abs(before[-3:] - after[-3:]).max() > 0.0


def test_rows_of_a_batch_see_their_own_pictures(small: Small) -> None:
    checkpoint = small[1]
    first = prompts(checkpoint.config.rows_per_crop)["one picture"]
    second = replace(first, crops=-first.crops)
    a, b = logits(checkpoint, [first, second])
    assert np.abs(a - b)[first.slots.argmax() :].max() > 1e-2
    before_the_picture = (x[first.slots == TEXT][:6] for x in (a, b))
    np.testing.assert_allclose(*before_the_picture, rtol=0, atol=SUMS)


def test_the_tower_stops_at_the_last_layer_it_needs(embedded: Checkpoint) -> None:
    tower = embedded.model.vision_tower
    crops = mx.zeros((1, 96, 96, 3))
    states = tower(crops, range(6))
    for n, state in enumerate(states):
        assert mx.array_equal(tower(crops, [n])[0], state)
        assert mx.array_equal(tower(crops, [n - 6])[0], state)
    last = tower.encoder.layers.pop()
    assert mx.array_equal(tower(crops, [4])[0], states[4])  # block 5 is not even there
    tower.encoder.layers.append(last)
