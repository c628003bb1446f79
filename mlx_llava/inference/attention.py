"""Where an answer looked: how much attention each of its tokens gave to every patch of the pictures.

A second pass over the prompt and the answer, which reads the weights out that the fused attention never forms. What
was said is not touched by it, nor is the kept cache. Tells where, never why.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_llava.inference.chat import Chat, Image, followed
from mlx_llava.inference.generate import CancelledError
from mlx_llava.inputs import TEXT, Example
from mlx_llava.models.llama import Attention, Llama, causal_mask
from mlx_llava.prompts.templates import Turn

# Zhang et al. 2025, "MLLMs Know Where to Look": what a question draws to a patch, over what a general instruction does
NEUTRAL = "Describe the image."
ROWS = 64  # positions whose weights are there at once: 34 MB with 32 heads and a context of 4096


@dataclass(frozen=True, eq=False)
class AttentionMaps:
    """Shares of attention: means over heads and layers."""

    ids: list[int]
    """The tokens of the answer, those that end it left out."""
    as_said: bool
    """Whether these are the very tokens that were said, to this very prompt; else the text was read anew."""
    shares: NDArray[np.float32]  # [tokens, pictures, side, side]
    neutral: NDArray[np.float32]  # [pictures, side, side] what each picture gets when it is to be described


def attention_maps(
    chat: Chat, turns: Sequence[Turn], images: Sequence[Image], stopped: Callable[[], bool] = lambda: False
) -> AttentionMaps:
    """Where the answer of the last turn looked; CancelledError where `stopped` turned true."""
    prompt, ids, as_said = _answered(chat, turns, images)
    shares = _shares(chat, prompt, ids, images, stopped)
    neutral = [_neutral(chat, image, stopped) for image in images]
    return AttentionMaps(ids, as_said, shares, np.stack(neutral))


def attention(
    model: Llama, x: mx.array, count: int, columns: mx.array, stopped: Callable[[], bool] = lambda: False
) -> mx.array:
    """What the last `count` positions give to the positions `columns`: `[count, columns]`, float32.

    Args:
        x: the decoder's input `[1, T, D]`.
    """
    mask, total = causal_mask(x.shape[1], model.sliding_window, None), mx.zeros((count, len(columns)))
    for layer in model.layers:
        if stopped():
            raise CancelledError
        total = total + _weights(layer.self_attn, layer.input_layernorm(x), count, columns, model.sliding_window)
        x = layer(x, mask, None)
        mx.eval(total, x)
    return total / len(model.layers)


def _weights(layer: Attention, x: mx.array, count: int, columns: mx.array, window: int | None) -> mx.array:
    """softmax(Q Kᵀ / √d) of the last `count` positions at `columns`, the mean over heads: `[count, columns]`."""

    def split(y: mx.array) -> mx.array:  # [1, T, D] -> [1, heads, T, head_dim]
        return mx.unflatten(y, -1, (-1, layer.head_dim)).swapaxes(1, 2)

    length = x.shape[1]
    first = length - count
    k = layer.rope(split(layer.k_proj(x)), 0).astype(mx.float32)
    q = layer.rope(split(layer.q_proj(x[:, first:])), first).astype(mx.float32)
    q = mx.unflatten(layer.scale * q, 1, (k.shape[1], -1))  # [1, kv_heads, heads of each, count, head_dim]
    means = []
    for start in range(0, count, ROWS):
        scores = q[..., start : start + ROWS, :] @ k[:, :, None].swapaxes(-1, -2)
        back = mx.arange(first + start, first + start + scores.shape[-2])[:, None] - mx.arange(length)
        seen = back >= 0 if window is None else (back >= 0) & (back < window)
        weights = mx.softmax(mx.where(seen, scores, -mx.inf), axis=-1)
        means.append(weights[..., columns].mean((0, 1, 2)))
        mx.eval(means[-1])
    return mx.concatenate(means)


def _answered(chat: Chat, turns: Sequence[Turn], images: Sequence[Image]) -> tuple[Example, list[int], bool]:
    """The prompt of the last turn, the tokens of its answer, and whether they were said just so."""
    said, last = chat.answer, turns[-1]
    prompt = chat.encode([*turns[:-1], replace(last, answer=None)], images)
    same = [p.identity for p in images] == [p.identity for p in chat.images]
    as_said = same and said.text == last.answer and said.prompt_ids == prompt.tokens.tolist()
    if as_said:
        ids = [token.id for token in said.tokens]
    else:
        whole = chat.encode([*turns, Turn("")], images)
        start, end = _last_run(whole.label_mask)
        before = {name: getattr(whole, name)[:start] for name in ("tokens", "slots", "label_mask")}
        prompt = replace(whole, **before)
        ids = whole.tokens[start:end].tolist()
    while len(ids) > 1 and (ids[-1] in chat.stop_ids or _says(chat, ids[:-1], last.answer)):
        ids.pop()
    return prompt, ids[: chat.room(prompt, len(ids))], as_said


def _says(chat: Chat, ids: Sequence[int], answer: str | None) -> bool:
    """Whether the answer is in these tokens already: what follows is a template's own end."""
    return bool(answer) and answer.strip() in chat.checkpoint.tokenizer.decode(ids)


def _last_run(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Where the last answer of a conversation begins and ends."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False))
    return int(edges[-2]), int(edges[-1])


def _shares(
    chat: Chat, prompt: Example, ids: Sequence[int], images: Sequence[Image], stopped: Callable[[], bool]
) -> NDArray[np.float32]:
    """Shares `[tokens, pictures, side, side]`; the position before a token is the one that predicts it."""
    config = chat.checkpoint.config
    fed = followed(prompt, ids[:-1])
    slots, x = fed.slots, chat.embed(fed, images, stopped=stopped)[None]
    is_patch = (slots != TEXT) & (slots % config.rows_per_crop >= config.rows_per_crop - config.vision.num_patches)
    columns = mx.array(np.flatnonzero(is_patch))
    shares = np.array(attention(chat.checkpoint.model.language_model, x, len(ids), columns, stopped))
    side = config.vision.image_size // config.vision.patch_size
    return shares.reshape(len(ids), len(images), side, side)


def _neutral(chat: Chat, image: Image, stopped: Callable[[], bool]) -> NDArray[np.float32]:
    prompt = chat.encode([Turn(NEUTRAL, 1)], [image])
    return _shares(chat, prompt, [0], [image], stopped)[0, 0]  # any token: the last one is never fed
