"""The decoding loops choose what mlx-lm's own loops choose."""

from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.generate import BatchGenerator, generate_step
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.sample_utils import make_logits_processors, make_sampler
from numpy.typing import NDArray
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.inference.cache import PrefixCache, group_size
from mlx_llava.inference.generate import Prompt, batch, prefill_batch, stream
from mlx_llava.inference.sampling import CacheOptions, Sampling, Token
from mlx_llava.models.llama import Llama

TEXT = replace(from_hf(CASES["plain"].config()).text, head_dim=32)
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
SAMPLINGS = (
    Sampling(max_tokens=9),
    Sampling(max_tokens=9, repetition_penalty=1.5),
    Sampling(max_tokens=9, temperature=1.0, seed=1),
    Sampling(max_tokens=9, temperature=0.7, top_p=0.9, seed=2),
    Sampling(max_tokens=9, temperature=1.3, top_k=5, min_p=0.05, repetition_penalty=1.2, seed=3),
)
CACHES = (CacheOptions(), CacheOptions(max_size=8), CacheOptions(bits=4))


@pytest.fixture(scope="module")
def model() -> Llama:
    mx.random.seed(0)
    model = Llama(TEXT)
    mx.eval(model.parameters())
    return model


def theirs(sampling: Sampling) -> dict[str, Any]:
    """The same sampling for mlx-lm's loops."""
    penalty = sampling.repetition_penalty if sampling.repetition_penalty != 1.0 else None
    return {
        "sampler": make_sampler(sampling.temperature, sampling.top_p, sampling.min_p, top_k=sampling.top_k),
        "logits_processors": make_logits_processors(repetition_penalty=penalty),
    }


def stream_of(model: Llama, ids: list[int], sampling: Sampling, options: CacheOptions) -> list[Token]:
    cache = PrefixCache(model, options)
    cache.reuse_prefix(ids)
    return list(stream(mx.array(ids), model.embed(mx.array(ids)), cache, sampling, num_top=3))


@pytest.mark.parametrize("ids", [PROMPT, PROMPT[:1]], ids=["long", "one token"])
@pytest.mark.parametrize("options", CACHES, ids=str)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_a_single_answer_is_that_of_generate_step(
    model: Llama, sampling: Sampling, options: CacheOptions, ids: list[int]
) -> None:
    answer = stream_of(model, ids, sampling, options)
    layers = make_prompt_cache(model, options.max_size)
    cache = {"kv_bits": options.bits, "kv_group_size": group_size(model), "quantized_kv_start": 0}
    steps = generate_step(mx.array(ids), model, max_tokens=9, prompt_cache=layers, **cache, **theirs(sampling))
    mx.random.seed(sampling.seed)
    for token, (expected, logprobs) in zip(answer, steps, strict=True):
        assert (token.id, token.logprob) == (expected, logprobs[expected].item())
        assert [logprob for _, logprob in token.top] == mx.sort(logprobs)[:-4:-1].tolist()


@pytest.mark.parametrize("sampling", SAMPLINGS, ids=str)
def test_the_answers_of_a_batch_are_those_of_batch_generator(model: Llama, sampling: Sampling) -> None:
    prompts = [
        Prompt(ids, model.embed(mx.array(ids)), length)
        for ids, length in ((PROMPT, 9), (PROMPT[:4], 3), ([7, 7], 5), ([8], 7))
    ]
    stop = batch(model, prompts, sampling, ())[2][1].id
    answers = batch(model, prompts, sampling, [stop])
    generator = BatchGenerator(model, stop_tokens=[[stop]], **theirs(sampling))
    numbers = generator.insert(
        [[prompt.ids[-1]] for prompt in prompts],
        [prompt.max_tokens for prompt in prompts],
        caches=prefill_batch(model, prompts),
        all_tokens=[list(prompt.ids[:-1]) for prompt in prompts],
    )
    expected: dict[int, list[int]] = {number: [] for number in numbers}
    mx.random.seed(sampling.seed)
    while responses := generator.next_generated():
        for response in responses:
            expected[response.uid].append(response.token)
    assert [[token.id for token in answer] for answer in answers] == list(expected.values())
    assert len(answers[2]) <= 2


def test_rows_of_a_batch_have_their_own_constraints(model: Llama) -> None:
    prompts = [Prompt(PROMPT, model.embed(mx.array(PROMPT)), length) for length in (6, 9, 4)]
    constrained = [prompts[0], prompts[1]._replace(matcher=Only(7)), prompts[2]]
    free, answers = (batch(model, some, SAMPLINGS[0], ()) for some in (prompts, constrained))
    assert [answers[0], answers[2]] == [free[0], free[2]]
    assert [token.id for token in answers[1]] == [7] * 9


class Only:
    """Allows a single token, again and again."""

    finished = False

    def __init__(self, token: int) -> None:
        self.token = token

    def allowed(self) -> NDArray[np.bool_]:
        """A mask of the token."""
        return np.arange(TEXT.vocab_size) == self.token

    def advance(self, token: int) -> None:
        """Accept the token only."""
        assert token == self.token
