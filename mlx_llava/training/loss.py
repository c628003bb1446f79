"""The loss of a batch: next-token cross entropy, summed over its answer tokens.

Knows nothing of optimizers: what is trained is whatever the model has not frozen.
"""

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlx_llava.data.feature_files import FeatureBatch
from mlx_llava.errors import RecordError
from mlx_llava.inputs import Batch
from mlx_llava.models.llama import Llama
from mlx_llava.models.llava import Llava

BUCKET = 64  # rows of the language head come in multiples of it, so that few shapes occur


class Targets(NamedTuple):
    """The tokens of a batch on which loss is taken, and where each of them is predicted."""

    rows: mx.array  # [R] positions, counted through the whole batch: one before the target
    tokens: mx.array  # [R]
    weights: mx.array  # [R] 1, or 0 where a row only fills the bucket
    num_tokens: int


def targets(batch: Batch) -> Targets:
    """What the label mask asks for, found before the graph is built; nothing predicts a row's first token.

    Raises RecordError where that is no token at all.
    """
    length = batch.tokens.shape[1]
    example, position = np.nonzero(batch.label_mask[:, 1:])
    if not len(position):
        raise RecordError("a batch has no answer token", "Leave out records whose answers are empty or cut off.")
    rows, tokens = example * length + position, batch.tokens[example, position + 1]
    filled = (0, -len(rows) % BUCKET)
    return Targets(
        rows=mx.array(np.pad(rows, filled).astype(np.int32)),
        tokens=mx.array(np.pad(tokens, filled)),
        weights=mx.array(np.pad(np.ones(len(rows), np.float32), filled)),
        num_tokens=len(rows),
    )


def embeddings(model: Llava, batch: Batch) -> mx.array:
    """The decoder's input `[B, T, D]`; the tower is a constant, and does not run for text or what it saw before."""
    features = None
    if isinstance(batch, FeatureBatch) and batch.seen is not None:
        features = model.projector(mx.array(batch.seen).view(model.vision_dtype)).flatten(0, 1)
    elif len(batch.crops):
        seen = mx.stop_gradient(model.vision_features(model.on_device(batch.crops)))
        features = model.projector(seen).flatten(0, 1)
    return model.embed(mx.array(batch.tokens), mx.array(batch.slots), features)


def summed_loss(vicuna: Llama, x: mx.array, wanted: Targets) -> mx.array:
    """Cross entropy in float32, summed over the targets; only their rows of `x [B, T, D]` reach the language head.

    No mask but causality: batches are padded on the right, and padding is nobody's target.
    """
    hidden = vicuna.decode(x).flatten(0, 1)[wanted.rows]
    losses = mx.fast.cross_entropy(vicuna.head(hidden), wanted.tokens)  # float32 in, float32 out
    return (losses * wanted.weights).sum()


def answer_loss(model: Llava, batch: Batch) -> tuple[mx.array, int]:
    """The summed loss of a batch, and the number of answer tokens it is summed over."""
    wanted = targets(batch)
    return summed_loss(model.language_model, embeddings(model, batch), wanted), wanted.num_tokens
