"""One decoding step after another, for one answer or for a batch: ids in, the next ids out.

A step is computed in the background while the caller handles the ids of the step before. Log-probabilities, the order
of processors and the drawing of random numbers are those of mlx-lm's `generate_step` and `BatchGenerator`, which are
not used because their module imports transformers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import mlx.core as mx

from mlx_llava.models.llama import Llama
from mlx_llava.models.mlx_lm_parts import LogitsProcessor, Sampler

CLEAR_AFTER = 256  # steps between two releases of MLX's unused buffers: growing caches leave many behind


class Choice(NamedTuple):
    """The chosen token of each row `[B]`, and the log-probabilities of all tokens `[B, V]`; not computed yet."""

    ids: mx.array
    logprobs: mx.array


class Rows:
    """Answers that are decoded side by side, each a row of the caches.

    Args:
        layers: filled caches; between two steps the caller may replace some in the list.
        contexts: for each row its ids so far, without those that the first step feeds.
        processors: for each row what changes its logits, given its ids so far.
    """

    def __init__(
        self,
        model: Llama,
        layers: list[Any],
        sampler: Sampler,
        contexts: Sequence[mx.array],
        processors: Sequence[Sequence[LogitsProcessor]],
    ) -> None:
        self.model = model
        self.layers = layers
        self.sampler = sampler
        self._contexts = list(contexts)
        self._processors = list(processors)
        self._num_steps = 0

    def step(self, ids: mx.array, embeddings: mx.array | None = None) -> Choice:
        """Feed each row its next token `[B]`, or `embeddings [B, D]` in its place, and start choosing the one after."""
        x = self.model.embed(ids) if embeddings is None else embeddings
        logits = self.model.head(self.model.decode(x[:, None], self.layers))[:, -1]
        if any(self._processors):
            logits = mx.concatenate([self._process(row, ids, logits) for row in range(len(ids))])
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        choice = Choice(self.sampler(logprobs), logprobs)
        mx.async_eval(choice)
        self._num_steps += 1
        if self._num_steps % CLEAR_AFTER == 0:
            mx.clear_cache()
        return choice

    def keep(self, rows: list[int]) -> None:
        """Drop all other rows; at least one must stay."""
        for layer in self.layers:
            layer.filter(rows)
        self._contexts = [self._contexts[row] for row in rows]
        self._processors = [self._processors[row] for row in rows]

    def _process(self, row: int, ids: mx.array, logits: mx.array) -> mx.array:
        """The logits of one row `[1, V]`, processed in order."""
        logits = logits[row : row + 1]
        if not self._processors[row]:
            return logits
        self._contexts[row] = mx.concatenate([self._contexts[row], ids[row : row + 1]])
        for process in self._processors[row]:
            logits = process(self._contexts[row], logits)
        return logits
