"""Which parts are trained, and one update of them from several micro-batches."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from mlx_llava.errors import UsageError
from mlx_llava.inputs import Batch
from mlx_llava.models.llama import BlockRunner, forward
from mlx_llava.models.llava import Llava
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.optimizer import AdamW, Arrays, global_norm, trainable

Part = Literal["projector", "language_model", "adapters"]


@dataclass(frozen=True)
class Step:
    """The result of one step."""

    loss: float  # per answer token
    num_tokens: int  # answer tokens in all its batches
    grad_norm: float  # before clipping
    skipped: bool  # loss or gradient was not finite, so nothing was updated


def train_only(model: Llava, *parts: Part) -> None:
    """Freeze everything else and switch the model to training mode; the vision tower is always frozen.

    Stage 1 trains the projector, stage 2 the projector and the language model, LoRA the adapters and usually the
    projector. Raises UsageError if a part is quantized or has nothing to train.
    """
    model.freeze()
    for part in parts:
        if part == "adapters":
            model.language_model.unfreeze(keys=["lora_a", "lora_b"])
        else:
            _refuse_quantized(part, model[part])
            model[part].unfreeze()
        prefix = "language_model." if part == "adapters" else f"{part}."
        if not any(name.startswith(prefix) for name in trainable(model)):
            raise UsageError(f"there is nothing to train in the {part}", "Attach adapters before training them.")
    model.train()


def _refuse_quantized(part: Part, module: nn.Module) -> None:
    kinds = nn.QuantizedLinear | nn.QuantizedEmbedding
    quantized = [path for path, layer in module.named_modules() if isinstance(layer, kinds)]
    if quantized:
        raise UsageError(
            f"the {part} is quantized ({quantized[0]} and {len(quantized) - 1} more layers) and cannot be trained",
            "Train adapters on it, or convert the checkpoint without -q or --q-tower.",
        )


def train_step(
    model: Llava,
    optimizer: AdamW,
    batches: Sequence[Batch],
    factor: float,
    *,
    per_batch_mean: bool = False,
    run_block: BlockRunner = forward,
) -> Step:
    """One update from several micro-batches; every answer token counts the same.

    Args:
        factor: from the schedule, multiplies the peak learning rates.
        per_batch_mean: average within each batch first, as LLaVA does; a token then counts more in a batch with few.

    Raises RecordError for a batch without answer tokens.
    """
    total, num_tokens, gradients = mx.array(0.0), 0, {}
    for batch in batches:
        loss, count, batch_gradients = loss_and_gradients(model, batch, run_block)
        share = 1 / count if per_batch_mean else 1.0
        total = total + loss * share
        num_tokens += count
        gradients = {n: g * share + gradients[n] if gradients else g * share for n, g in batch_gradients.items()}
        mx.eval(total, gradients)  # otherwise the graphs of all batches stay alive
    divisor = len(batches) if per_batch_mean else num_tokens
    gradients = {name: gradient / divisor for name, gradient in gradients.items()}
    loss, norm = float(total / divisor), float(global_norm(gradients))
    finite = math.isfinite(loss) and math.isfinite(norm)
    if finite:
        optimizer.update(model, gradients, factor)
    return Step(loss, num_tokens, norm, skipped=not finite)


def loss_and_gradients(model: Llava, batch: Batch, run_block: BlockRunner = forward) -> tuple[mx.array, int, Arrays]:
    """The summed loss of a batch, its number of answer tokens, and float32 gradients of the trainable parameters."""
    weights: Any = model.trainable_parameters()

    def loss_of(weights: Any) -> tuple[mx.array, int]:
        model.update(weights)
        return answer_loss(model, batch, run_block)

    (loss, count), gradients = mx.value_and_grad(loss_of)(weights)
    model.update(weights)  # otherwise the model keeps the traced arrays
    flat: list[tuple[str, mx.array]] = tree_flatten(gradients)  # pyright: ignore
    return loss, count, {name: gradient.astype(mx.float32) for name, gradient in flat}
