"""Attention maps: how much each token of an answer attends to every patch of the images.

A second forward pass over prompt and answer computes the weights that fused attention never materializes. It changes
neither the conversation nor its cache. Attention says where the model looked, not why.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_llava.images.image import Image
from mlx_llava.inference.cancel import Cancelled, compute_unless, never
from mlx_llava.inference.chat import Answer
from mlx_llava.inference.prompter import Prompter, with_prefix
from mlx_llava.inputs import Example
from mlx_llava.models.llama import Attention, DecoderLayer, Llama
from mlx_llava.prompts.templates import Turn

# Zhang et al. 2025, "MLLMs Know Where to Look": attention for a question relative to that for a general instruction
NEUTRAL = "Describe the image."
ROWS = 64  # queries whose weights are in memory at once: 34 MB with 32 heads and a context of 4096


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Attention weights, averaged over heads and layers."""

    ids: list[int]
    """Tokens of the answer, without those that end it."""
    verbatim: bool
    """Whether these tokens were generated from this prompt; otherwise the answer's text was tokenized again."""
    shares: NDArray[np.float32]  # [tokens, images, side, side]
    neutral: NDArray[np.float32]  # [images, side, side] for the first token of a general description


def attention_maps(
    prompter: Prompter, turns: Sequence[Turn], images: Sequence[Image], answer: Answer, cancelled: Cancelled = never
) -> AttentionMaps:
    """Attention of the last turn's answer to the images; raises CancelledError if cancelled.

    Args:
        answer: the last generated answer; its tokens are used if it is the answer of this last turn.
    """
    prompt, ids, verbatim = _prompt_and_answer(prompter, turns, images, answer)
    shares = _shares(prompter, prompt, ids, images, cancelled)
    neutral = [_neutral(prompter, image, cancelled) for image in images]
    return AttentionMaps(ids, verbatim, shares, np.stack(neutral))


def attention(model: Llama, x: mx.array, count: int, columns: mx.array, cancelled: Cancelled = never) -> mx.array:
    """Attention of the last `count` positions to the positions `columns`: `[count, columns]`, float32.

    Args:
        x: the decoder's input `[1, T, D]`.
    """
    total, window = mx.zeros((count, len(columns))), model.sliding_window

    def run_block(block: DecoderLayer, x: mx.array, mask: mx.array | str | None, cache: None) -> mx.array:
        nonlocal total
        compute_unless(cancelled, x)
        total = total + _weights(block.self_attn, block.input_layernorm(x), count, columns, window)
        x = block(x, mask, cache)
        mx.eval(total, x)
        return x

    model.decode(x, run_block=run_block)
    return total / len(model.layers)


def _weights(layer: Attention, x: mx.array, count: int, columns: mx.array, window: int | None) -> mx.array:
    """softmax(Q Kᵀ / √d) of the last `count` positions at `columns`, averaged over heads: `[count, columns]`."""

    def split(y: mx.array) -> mx.array:  # [1, T, D] -> [1, heads, T, head_dim]
        return mx.unflatten(y, -1, (-1, layer.head_dim)).swapaxes(1, 2)

    length = x.shape[1]
    first = length - count
    k = layer.rope(split(layer.k_proj(x)), 0).astype(mx.float32)
    q = layer.rope(split(layer.q_proj(x[:, first:])), first).astype(mx.float32)
    q = mx.unflatten(layer.scale * q, 1, (k.shape[1], -1))  # [1, kv_heads, heads per kv_head, count, head_dim]
    means = []
    for start in range(0, count, ROWS):
        scores = q[..., start : start + ROWS, :] @ k[:, :, None].swapaxes(-1, -2)
        distance = mx.arange(first + start, first + start + scores.shape[-2])[:, None] - mx.arange(length)
        visible = distance >= 0 if window is None else (distance >= 0) & (distance < window)
        weights = mx.softmax(mx.where(visible, scores, -mx.inf), axis=-1)
        means.append(weights[..., columns].mean((0, 1, 2)))
        mx.eval(means[-1])
    return mx.concatenate(means)


def _prompt_and_answer(
    prompter: Prompter, turns: Sequence[Turn], images: Sequence[Image], answer: Answer
) -> tuple[Example, list[int], bool]:
    """The prompt of the last turn, the tokens of its answer, and whether they are the generated ones."""
    text = turns[-1].answer
    prompt = prompter.encode([*turns[:-1], replace(turns[-1], answer=None)], images)
    keys = [image.key for image in prompt.images]
    same_prompt = (answer.prompt_ids, answer.image_keys) == (prompt.tokens.tolist(), keys)
    verbatim = bool(answer.tokens) and same_prompt and answer.text == text
    if verbatim:
        ids = [token.id for token in answer.tokens]
    else:
        whole = prompter.encode([*turns, Turn("")], images)
        start, end = np.flatnonzero(np.diff(whole.label_mask, prepend=False, append=False))[-2:].tolist()
        before = {name: getattr(whole, name)[:start] for name in ("tokens", "slots", "label_mask")}
        prompt, ids = replace(whole, **before), whole.tokens[start:end].tolist()
    while len(ids) > 1 and (ids[-1] in prompter.stop_ids or _contains(prompter, ids[:-1], text)):
        ids.pop()
    return prompt, ids[: prompter.room(prompt, len(ids))], verbatim


def _contains(prompter: Prompter, ids: Sequence[int], text: str | None) -> bool:
    """Whether the tokens already contain the whole answer; the template ends it with further tokens."""
    return bool(text) and text.strip() in prompter.checkpoint.tokenizer.decode(ids)


def _shares(
    prompter: Prompter, prompt: Example, ids: Sequence[int], images: Sequence[Image], cancelled: Cancelled
) -> NDArray[np.float32]:
    """Attention `[tokens, images, side, side]`; a token's weights are those of the position that predicts it."""
    config = prompter.checkpoint.config
    whole = with_prefix(prompt, ids[:-1])
    x = prompter.embed(whole, images, cancelled=cancelled)[None]
    patches = [image.positions[-config.vision.num_patches :] for image in whole.images]  # after the class token
    columns = mx.array([position for positions in patches for position in positions])
    shares = np.array(attention(prompter.checkpoint.model.language_model, x, len(ids), columns, cancelled))
    side = config.vision.image_size // config.vision.patch_size
    return shares.reshape(len(ids), len(images), side, side)


def _neutral(prompter: Prompter, image: Image, cancelled: Cancelled) -> NDArray[np.float32]:
    prompt = prompter.encode([Turn(NEUTRAL, 1)], [image])
    return _shares(prompter, prompt, [0], [image], cancelled)[0, 0]  # any token: the last one is never fed
