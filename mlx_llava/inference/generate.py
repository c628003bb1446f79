"""Tokens from a prompt: prefill, then one at a time, alone or in a batch.

Knows nothing of text or pictures: token ids and hidden states come in, token ids go out. Built on mlx-lm's
`generate_step`, caches, samplers and `BatchGenerator`; mlx-lm applies top-p, min-p and top-k before the temperature.
"""

from collections.abc import Callable, Collection, Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx_lm.generate import BatchGenerator, generate_step, maybe_quantize_kv_cache
from mlx_lm.models.cache import can_trim_prompt_cache, make_prompt_cache, trim_prompt_cache
from mlx_lm.sample_utils import LogitsProcessor, Sampler, make_logits_processors, make_sampler
from numpy.typing import NDArray

from mlx_llava.errors import UsageError
from mlx_llava.models.backend import on_cpu
from mlx_llava.models.llama import Llama

# Positions that go through a block at once, between two looks at who waits. More gain nothing measurable. On the CPU,
# 128 are as fast; but packed layers unpack for each lot, and 640 positions would take half as long again.
PREFILL, PREFILL_CPU = 512, 128


class CancelledError(Exception):
    """Nobody waits for it any more."""


def compute_unless(stopped: Callable[[], bool]) -> Callable[[mx.array], None]:
    """What computes an array, and raises CancelledError where `stopped` has turned true: a model's `before_block`."""

    def compute(x: mx.array) -> None:
        mx.eval(x)
        if stopped():
            raise CancelledError

    return compute


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many there may be."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class CacheOptions:
    """How keys and values are kept: all of them, the last `max_size`, or packed into `bits`."""

    max_size: int | None = None
    bits: int | None = None


class Token(NamedTuple):
    """A generated token, with its log-probability and the likeliest (id, log-probability) if they were asked for."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


class Prompt(NamedTuple):
    """A prompt of a batch; its last position must show its own id."""

    ids: Sequence[int]
    embeddings: mx.array  # [T, D]
    max_tokens: int


class KeptCache:
    """A KV cache, and the keys of the positions that stand in it.

    A key says what a position shows: equal keys, equal position. A prompt that begins like the last one is
    computed only from where it differs.
    """

    def __init__(self, model: Llama, options: CacheOptions) -> None:
        if options.max_size is not None and options.bits is not None:
            raise UsageError("--max-kv-size and --kv-bits exclude each other", "Leave one out.")
        if options.bits is not None and not _group_size(model):
            raise UsageError("--kv-bits: the heads of this model do not divide into groups of 32", "Leave it out.")
        self.model = model
        self.options = options
        self.keys: list[Hashable] = []
        self.layers: list[Any] = []

    def resume(self, keys: Sequence[Hashable]) -> int:
        """Drop what differs from `keys`; the number of positions that stand, at least one less than asked for."""
        common = next((i for i, (a, b) in enumerate(zip(self.keys, keys, strict=False)) if a != b), None)
        common = min(len(self.keys), len(keys)) if common is None else common
        common = min(common, len(keys) - 1)  # the last position is always fed: its logits are wanted
        surplus = len(self.keys) - common
        if self.layers and (not surplus or can_trim_prompt_cache(self.layers)):
            trim_prompt_cache(self.layers, surplus)
        else:
            common = 0
            self.layers = make_prompt_cache(self.model, max_kv_size=self.options.max_size)
        self.keys = list(keys[:common])
        return common

    def level(self) -> None:
        """Take back what only some of the layers were fed, where it can be taken back."""
        fed = min(layer.offset for layer in self.layers)
        if can_trim_prompt_cache(self.layers):
            for layer in self.layers:
                layer.trim(layer.offset - fed)

    def settle(self, keys: Sequence[Hashable]) -> None:
        """Note what stands in the cache after `keys` were fed, the last of them perhaps not.

        An error in the middle may leave the layers at odds, or with a token that nobody saw: then nothing stands.
        """
        fed = {layer.offset for layer in self.layers}
        if len(fed) != 1 or max(fed) > len(keys):
            self.keys, self.layers = [], []
        else:
            self.keys = list(keys[: max(fed)])


def stream(
    model: Llama,
    tokens: mx.array,
    embeddings: mx.array,
    cache: KeptCache,
    sampling: Sampling,
    num_top: int = 0,
    stopped: Callable[[], bool] = lambda: False,
) -> Generator[Token, None, None]:
    """Tokens after a prompt, without end but for `max_tokens`; leaves the prompt and them in the cache.

    CancelledError where `stopped` turned true before the first of them; the cache keeps what all layers have read.

    Args:
        tokens: ids of the whole prompt `[T]`, for the repetition penalty.
        embeddings: what the decoder sees of the positions that the cache does not hold yet `[new, D]`.
        num_top: how many of the likeliest tokens to report beside each.
    """
    compute = compute_unless(stopped)
    try:
        _prefill(model, embeddings[:-1], cache.layers, cache.options.bits, compute)
    except CancelledError:
        cache.level()
        raise
    compute(embeddings)
    steps = generate_step(
        tokens[-1:],
        model,
        max_tokens=sampling.max_tokens,
        sampler=_sampler(sampling, model),
        logits_processors=_processors(sampling, tokens[:-1]),
        prompt_cache=cache.layers,
        kv_bits=cache.options.bits,
        kv_group_size=_group_size(model),
        quantized_kv_start=0,
        input_embeddings=embeddings[-1:],
    )
    mx.random.seed(sampling.seed)
    with closing(steps):  # on this thread: mlx-lm's stream cannot be left on another
        for token, logprobs in steps:
            yield _token(int(token), logprobs, num_top)


def batch(
    model: Llama,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    stop: Collection[int],
) -> list[list[Token]]:
    """Answers to several prompts, decoded together; a stop token ends its answer and is its last token.

    Each prompt has its own `max_tokens`, which holds instead of the sampling's.
    """
    mx.random.seed(sampling.seed)
    generator = BatchGenerator(model, stop_tokens=[[n] for n in stop], sampler=_sampler(sampling, model))
    caches = [make_prompt_cache(model) for _ in prompts]
    for prompt, layers in zip(prompts, caches, strict=True):
        _prefill(model, prompt.embeddings[:-1], layers)
    numbers = generator.insert(
        [[prompt.ids[-1]] for prompt in prompts],
        max_tokens=[prompt.max_tokens for prompt in prompts],
        caches=caches,
        all_tokens=[list(prompt.ids[:-1]) for prompt in prompts],
        logits_processors=[_processors(sampling)] * len(prompts),
    )
    answers: dict[int, list[Token]] = {n: [] for n in numbers}
    with closing(generator):
        while responses := generator.next_generated():
            for response in responses:
                answers[response.uid].append(_token(response.token, response.logprobs, 0))
    return [answers[n] for n in numbers]


def _prefill(
    model: Llama,
    embeddings: mx.array,
    layers: list[Any],
    bits: int | None = None,
    before_block: Callable[[mx.array], None] | None = None,
) -> None:
    """Feed the caches as `generate_step` would, which looks up only between lots of positions."""
    lot = PREFILL_CPU if on_cpu() and not _packed(model) else PREFILL
    for start in range(0, len(embeddings), lot):
        model.decode(embeddings[None, start : start + lot], layers, before_block)
        maybe_quantize_kv_cache(layers, 0, _group_size(model), bits)
        mx.eval([layer.state for layer in layers])
        mx.clear_cache()


def _packed(model: Llama) -> bool:
    return any(isinstance(module, nn.QuantizedLinear) for module in model.modules())


def _sampler(sampling: Sampling, model: Llama) -> Sampler:
    top_k = sampling.top_k if sampling.top_k < model.vocab_size else 0  # all of them is no choice at all
    return make_sampler(sampling.temperature, sampling.top_p, sampling.min_p, top_k=top_k)


def _processors(sampling: Sampling, before: mx.array | None = None) -> list[LogitsProcessor]:
    """mlx-lm's penalty; `before` are ids that it would not see, because they were fed before."""
    if sampling.repetition_penalty == 1.0:
        return []
    (penalty,) = make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    if before is None:
        return [penalty]
    earlier = before
    return [lambda ids, logits: penalty(mx.concatenate([earlier, ids]), logits)]


def _group_size(model: Llama) -> int:
    dim = model.layers[0].self_attn.head_dim
    return next((size for size in (64, 32) if dim % size == 0), 0)


def _token(token: int, logprobs: mx.array, num_top: int) -> Token:
    if not num_top:
        return Token(token)
    known: NDArray[np.float32] = np.array(logprobs.astype(mx.float32))
    likeliest = np.argsort(-known, kind="stable")[:num_top]
    return Token(token, float(known[token]), tuple((int(n), float(known[n])) for n in likeliest))
