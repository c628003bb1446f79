"""Generation, apart from any picture or text."""

from dataclasses import replace

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.inference.cache import PrefixCache
from mlx_llava.inference.generate import Prompt, batch, stream
from mlx_llava.inference.sampling import CacheOptions, Sampling
from mlx_llava.models.llama import Llama

TEXT = from_hf(CASES["plain"].config()).text


@pytest.fixture(scope="module")
def model() -> Llama:
    mx.random.seed(0)
    model = Llama(TEXT)
    mx.eval(model.parameters())
    return model


def test_a_prefill_computes_the_language_head_for_the_last_position_only() -> None:
    model = Llama(replace(TEXT, vocab_size=60_000, num_hidden_layers=1))
    tokens = mx.arange(480)
    embeddings = model.embed(tokens)
    cache = PrefixCache(model, CacheOptions())
    cache.reuse_prefix(range(480))
    mx.eval(model.parameters(), embeddings)
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    list(stream(tokens, embeddings, cache, Sampling(max_tokens=1)))
    all_logits = len(tokens) * 60_000 * 4
    assert mx.get_peak_memory() - before < all_logits / 10


@settings(max_examples=50)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_kept_cache_stands_for_the_longest_common_beginning(model: Llama, prompts: list[list[int]]) -> None:
    cache, last = PrefixCache(model, CacheOptions()), []
    for ids in prompts:
        start = cache.reuse_prefix(ids)
        same = [a == b for a, b in zip(last, ids, strict=False)]
        assert start == min(([*same, False]).index(False), len(ids) - 1)
        tokens = mx.array(ids)
        drawn = [t.id for t in stream(tokens, model.embed(tokens[start:]), cache, Sampling(max_tokens=2))]
        fresh = PrefixCache(model, CacheOptions())
        fresh.reuse_prefix(ids)
        alone = [t.id for t in stream(tokens, model.embed(tokens), fresh, Sampling(max_tokens=2))]
        assert drawn == alone
        last = [*ids, *drawn]
        cache.record(last)


@settings(max_examples=40)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=4))
def test_answers_of_a_batch_are_those_of_each_prompt_alone(model: Llama, prompts: list[list[int]]) -> None:
    sampling = Sampling(max_tokens=3)
    together = batch(model, [Prompt(ids, model.embed(mx.array(ids)), 3, keys=ids) for ids in prompts], sampling, ())
    for ids, answer in zip(prompts, together, strict=True):
        alone = PrefixCache(model, CacheOptions())
        alone.reuse_prefix(ids)
        tokens = mx.array(ids)
        assert answer == list(stream(tokens, model.embed(tokens), alone, sampling))
