"""What a step takes besides weights and the optimizer's state, told before the first one: an estimate.

Counted are the arrays that the backward pass of a Vicuna block needs; tests hold it against MLX's own count.
"""

from typing import NamedTuple

from mlx_llava.config import TextConfig

LOGITS = 4  # arrays of the language head's size in float32: logits, their exponentials, probabilities, gradient
BACKWARD = 2  # a block that is computed again is there with its gradients


class Sizes(NamedTuple):
    """The largest batch of a run."""

    rows: int
    """Conversations."""
    length: int
    """Tokens of the longest."""
    answers: int
    """Tokens of it that loss is taken on."""


def step_memory(text: TextConfig, sizes: Sizes, num_bytes: int, *, recompute: bool) -> int:
    """Bytes of activations in a step, `num_bytes` for each number."""
    positions = sizes.rows * sizes.length
    block = positions * _block(text, sizes.length) * num_bytes
    state = positions * text.hidden_size * num_bytes
    layers = text.num_hidden_layers
    blocks = layers * state + BACKWARD * block if recompute else layers * block
    return blocks + LOGITS * 4 * sizes.rows * sizes.answers * text.vocab_size


def _block(text: TextConfig, length: int) -> int:
    """Numbers that a block keeps for each position.

    Width: two inputs, two norms, queries before and after their turn, what attention gave, the first sum. Keys and
    values, keys turned. Scores and their softmax. In the MLP: gate, sigmoid, silu, up, product.
    """
    queries, keys = text.num_attention_heads * text.head_dim, text.num_key_value_heads * text.head_dim
    scores = 2 * text.num_attention_heads * length
    return 5 * text.hidden_size + 3 * queries + 3 * keys + scores + 5 * text.intermediate_size
