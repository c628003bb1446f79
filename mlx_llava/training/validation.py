"""The loss on examples that nothing is trained on, which tells when training has gone on for too long."""

from mlx_llava.data.examples import Examples
from mlx_llava.models.llava import Llava
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.tower_features import with_features


def validation_loss(model: Llava, examples: Examples, batch_size: int) -> float:
    """The mean loss of an answer token over all examples, without dropout; the model trains on afterwards."""
    total, num_tokens = 0.0, 0
    model.eval()
    try:
        for start in range(0, len(examples), batch_size):
            batch = examples.batch(range(start, min(start + batch_size, len(examples))))
            if examples.features is not None:
                batch = with_features(model, examples.features, batch)
            loss, count = answer_loss(model, batch)
            total, num_tokens = total + float(loss), num_tokens + count
    finally:
        model.train()
    return total / num_tokens
