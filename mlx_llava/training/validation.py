"""The loss on examples that are not trained on."""

from itertools import islice

from mlx_llava.data.examples import Examples
from mlx_llava.models.llava import Llava
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.tower_features import add_features


def validation_loss(model: Llava, examples: Examples, batch_size: int, num_batches: int | None = None) -> float:
    """The mean loss per answer token over all examples, or those of the first batches.

    Runs without dropout; leaves the model in training mode.
    """
    total, num_tokens = 0.0, 0
    model.eval()
    try:
        indices = range(len(examples))
        for start in islice(indices[::batch_size], num_batches):
            batch = examples.batch(indices[start : start + batch_size])
            batch = add_features(model, examples.feature_files, batch)
            loss, count = answer_loss(model, batch)
            total, num_tokens = total + float(loss), num_tokens + count
    finally:
        model.train()
    return total / num_tokens
