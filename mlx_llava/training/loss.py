"""The loss of a batch: next-token cross entropy, summed over its answer tokens.

Knows nothing of optimizers: the trained parameters are those that the model has not frozen.
"""

from typing import NamedTuple

import mlx.core as mx
import numpy as np

from mlx_llava.data.feature_files import FeatureBatch
from mlx_llava.errors import RecordError
from mlx_llava.inputs import Batch
from mlx_llava.models.llama import BlockRunner, Llama, forward
from mlx_llava.models.llava import Llava

BUCKET = 64  # the language head's rows are padded to a multiple of this, so that few shapes occur


class Targets(NamedTuple):
    """The answer tokens of a batch, and the position that predicts each."""

    rows: mx.array  # [R] positions in the flattened batch: one before the target
    tokens: mx.array  # [R]
    weights: mx.array  # [R] 1, or 0 for padding
    num_tokens: int


def targets(batch: Batch) -> Targets:
    """The targets under the label mask, without the first token of a row, which nothing predicts.

    Raises RecordError if there are none.
    """
    length = batch.tokens.shape[1]
    example, position = np.nonzero(batch.label_mask[:, 1:])
    if not len(position):
        raise RecordError("a batch has no answer token", "Remove records whose answers are empty or cut off.")
    rows, tokens = example * length + position, batch.tokens[example, position + 1]
    padding = (0, -len(rows) % BUCKET)
    return Targets(
        rows=mx.array(np.pad(rows, padding).astype(np.int32)),
        tokens=mx.array(np.pad(tokens, padding)),
        weights=mx.array(np.pad(np.ones(len(rows), np.float32), padding)),
        num_tokens=len(rows),
    )


def embeddings(model: Llava, batch: Batch) -> mx.array:
    """The decoder's input `[B, T, D]`. The tower gets no gradient, and does not run for text or cached features."""
    features = None
    if isinstance(batch, FeatureBatch) and batch.features is not None:
        features = model.projector(mx.array(batch.features).view(model.vision_dtype)).flatten(0, 1)
    elif len(batch.crops):
        vision_features = mx.stop_gradient(model.vision_features(model.vision_states(batch.crops)))
        features = model.projector(vision_features).flatten(0, 1)
    return model.embed(mx.array(batch.tokens), mx.array(batch.slots), features)


def summed_loss(llama: Llama, x: mx.array, goal: Targets, run_block: BlockRunner = forward) -> mx.array:
    """Cross entropy in float32, summed over the targets; only their rows of `x [B, T, D]` reach the language head.

    The causal mask suffices: batches are padded on the right, and padding is never a target.
    """
    hidden = llama.decode(x, run_block=run_block).flatten(0, 1)[goal.rows]
    losses = mx.fast.cross_entropy(llama.head(hidden), goal.tokens)  # float32 in, float32 out
    return (losses * goal.weights).sum()


def answer_loss(model: Llava, batch: Batch, run_block: BlockRunner = forward) -> tuple[mx.array, int]:
    """The summed loss of a batch, and its number of answer tokens."""
    goal = targets(batch)
    return summed_loss(model.language_model, embeddings(model, batch), goal, run_block), goal.num_tokens
