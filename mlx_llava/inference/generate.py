"""Tokens from a prompt: prefill, then one at a time, alone or in a batch.

Knows nothing of text or images: token ids and embeddings in, token ids out. Caches and samplers are mlx-lm's, which
applies top-p, min-p and top-k before the temperature.
"""

from collections.abc import Collection, Generator, Hashable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from mlx_llava.inference.cache import PrefixCache, quantize
from mlx_llava.inference.cancel import Cancelled, CancelledError, compute_unless, never, runner
from mlx_llava.inference.constraint import Matcher
from mlx_llava.inference.decode import Choice, Rows
from mlx_llava.inference.sampling import Sampling, Token
from mlx_llava.models.backend import on_cpu
from mlx_llava.models.llama import BlockRunner, Llama, forward
from mlx_llava.models.mlx_lm_parts import (
    BatchKVCache,
    KVCache,
    LogitsProcessor,
    Sampler,
    make_logits_processors,
    make_prompt_cache,
    make_sampler,
)

# Positions in a prefill chunk; larger chunks are not measurably faster. On the CPU, 128 are as fast, except in a
# quantized model: it dequantizes its weights for every chunk, and 640 positions would take half as long again.
PREFILL, PREFILL_CPU = 512, 128

# Below this temperature the likeliest token is chosen, which sampling would do too: a log-probability divided by a
# smaller one may overflow float16, and then any token comes out.
COLDEST = 1e-3


class Prompt(NamedTuple):
    """A prompt of a batch; its last position must be text, embedded as its own id."""

    ids: Sequence[int]
    embeddings: mx.array  # [T, D]
    max_tokens: int
    matcher: Matcher | None = None
    keys: Sequence[Hashable] = ()
    """One for each position: prompts whose keys begin alike have embeddings that begin alike."""


def stream(
    tokens: mx.array,
    embeddings: mx.array,
    cache: PrefixCache,
    sampling: Sampling,
    num_top: int = 0,
    cancelled: Cancelled = never,
    matcher: Matcher | None = None,
) -> Generator[Token, None, None]:
    """Up to `max_tokens` tokens after a prompt; stop tokens do not end them. Prompt and tokens stay in the cache.

    Raises CancelledError if cancelled before the first token; the cache keeps the positions that all layers have run.

    Args:
        tokens: ids of the whole prompt `[T]`, for the repetition penalty.
        embeddings: the decoder's input at the positions that are not cached yet `[new, D]`.
        num_top: number of likeliest tokens to report with each token.
        matcher: allows the tokens of the answer; it has followed every token that is yielded.
    """
    model = cache.model
    try:
        _prefill(model, embeddings[None, :-1], cache.layers, cache.options.bits, runner(cancelled))
    except CancelledError:
        cache.align_layers()
        raise
    compute_unless(cancelled, embeddings)
    mx.random.seed(sampling.seed)
    rows = Rows(model, cache.layers, _sampler(sampling, model), [tokens[:-1]], [_processors(sampling, matcher)])
    choice = rows.step(tokens[-1:], embeddings[-1:])
    quantize(model, cache.layers, cache.options.bits)  # prefill has not done it if the prompt is a single position
    for _ in range(sampling.max_tokens):
        ahead = rows.step(choice.ids)
        yield _token(choice, num_top)
        choice = ahead


def batch(model: Llama, prompts: Sequence[Prompt], sampling: Sampling, stop: Collection[int]) -> list[list[Token]]:
    """Answers to several prompts, decoded together; a stop token ends its answer and is its last token.

    Each prompt's `max_tokens` overrides that of `sampling`.
    """
    mx.random.seed(sampling.seed)
    with _wired_memory():
        layers = [BatchKVCache.merge(caches) for caches in zip(*prefill_batch(model, prompts), strict=True)]
        contexts = [mx.array(list(prompt.ids[:-1]), mx.int32) for prompt in prompts]
        processors = [_processors(sampling, prompt.matcher) for prompt in prompts]
        rows = Rows(model, layers, _sampler(sampling, model), contexts, processors)
        return _answers(rows, prompts, stop)


def _answers(rows: Rows, prompts: Sequence[Prompt], stop: Collection[int]) -> list[list[Token]]:
    """The answers to prompts that are in the caches of `rows` except for their last positions."""
    answers: list[list[Token]] = [[] for _ in prompts]
    unfinished = list(range(len(prompts)))
    ahead = rows.step(mx.array([prompt.ids[-1] for prompt in prompts])).ids
    while unfinished:
        ids, ahead = ahead, rows.step(ahead).ids
        for number, token in zip(unfinished, np.array(ids).tolist(), strict=True):
            answers[number].append(Token(token))
        left = [
            row
            for row, number in enumerate(unfinished)
            if answers[number][-1].id not in stop and len(answers[number]) < prompts[number].max_tokens
        ]
        if left and len(left) < len(unfinished):
            rows.keep(left)
            ahead = ahead[mx.array(left)]
        unfinished = [unfinished[row] for row in left]
    return answers


@contextmanager
def _wired_memory() -> Iterator[None]:
    """On Metal, keep the memory of the model resident while a batch is answered."""
    recommended = mx.device_info().get("max_recommended_working_set_size")
    if recommended is None:
        yield
        return
    before = mx.set_wired_limit(int(recommended))
    try:
        yield
    finally:
        mx.synchronize()
        mx.set_wired_limit(before)


def prefill_batch(model: Llama, prompts: Sequence[Prompt]) -> list[list[Any]]:
    """Caches of each prompt but for its last position; a beginning that all prompts share is computed once.

    The rest is computed side by side, padded on the right, where a causal mask hides the padding.
    """
    layers: list[Any] = make_prompt_cache(model)
    lengths = [len(prompt.embeddings) - 1 for prompt in prompts]
    columns = zip(*(prompt.keys[:length] for prompt, length in zip(prompts, lengths, strict=True)), strict=False)
    shared = sum(1 for _ in takewhile(lambda column: len(set(column)) == 1, columns))
    _prefill(model, prompts[0].embeddings[None, :shared], layers)
    for layer in layers if shared else ():
        keys, values = layer.keys_and_values()
        layer.state = mx.repeat(keys, len(prompts), axis=0), mx.repeat(values, len(prompts), axis=0), shared
    longest = max(lengths)
    rest = [prompt.embeddings[shared:length] for prompt, length in zip(prompts, lengths, strict=True)]
    _prefill(model, mx.stack([mx.pad(x, [(0, longest - shared - len(x)), (0, 0)]) for x in rest]), layers)
    return [[_row(layer, n, length) for layer in layers] for n, length in enumerate(lengths)]


def _row(layer: Any, number: int, length: int) -> KVCache:
    """The first positions of one row of a cache."""
    row = KVCache()
    if length:
        row.state = *(x[number : number + 1, :, :length] for x in layer.keys_and_values()), length
    return row


def _prefill(
    model: Llama, embeddings: mx.array, layers: list[Any], bits: int | None = None, run_block: BlockRunner = forward
) -> None:
    """Fill the caches with `[B, T, D]` chunk by chunk."""
    chunk = PREFILL_CPU if on_cpu() and not _is_quantized(model) else PREFILL
    for start in range(0, embeddings.shape[1], chunk):
        model.decode(embeddings[:, start : start + chunk], layers, run_block)
        quantize(model, layers, bits)
        mx.eval([layer.state for layer in layers])
        mx.clear_cache()


def _is_quantized(model: Llama) -> bool:
    return any(isinstance(module, nn.QuantizedLinear) for module in model.modules())


def _sampler(sampling: Sampling, model: Llama) -> Sampler:
    top_k = sampling.top_k if sampling.top_k < model.vocab_size else 0  # mlx-lm rejects a top_k of the whole vocabulary
    temperature = sampling.temperature if sampling.temperature >= COLDEST else 0.0
    return make_sampler(temperature, sampling.top_p, sampling.min_p, top_k=top_k)


def _processors(sampling: Sampling, matcher: Matcher | None) -> list[LogitsProcessor]:
    """mlx-lm's repetition penalty, then the mask."""
    processors: list[LogitsProcessor] = []
    if sampling.repetition_penalty != 1.0:
        processors += make_logits_processors(repetition_penalty=sampling.repetition_penalty)
    if matcher is not None:
        processors.append(_mask(matcher))
    return processors


def _mask(matcher: Matcher) -> LogitsProcessor:
    """Leaves the logits of allowed tokens; called with the prompt's last token first, then with each of the answer."""
    in_prompt = True

    def mask(ids: mx.array, logits: mx.array) -> mx.array:
        nonlocal in_prompt
        if not in_prompt:
            matcher.advance(int(np.array(ids[-1])))
        in_prompt = False
        return mx.where(mx.array(matcher.allowed().view(np.uint8)), logits, -mx.inf)

    return mask


def _token(choice: Choice, num_top: int) -> Token:
    (token,) = np.array(choice.ids).tolist()
    if not num_top:
        return Token(token)
    all_logprobs: NDArray[np.float32] = np.array(choice.logprobs[0].astype(mx.float32))
    likeliest = np.argsort(-all_logprobs, kind="stable")[: min(num_top, np.isfinite(all_logprobs).sum())]
    return Token(token, float(all_logprobs[token]), tuple((int(n), float(all_logprobs[n])) for n in likeliest))
