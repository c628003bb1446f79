"""The decoder of LLaMA, Vicuna and Mistral, which differ only in their configs.

Meets the contract of mlx-lm's caches and of its `generate_step`: `model(ids, cache=…, input_embeddings=…)` and
`model.layers`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_llava.config import RopeConfig, TextConfig
from mlx_llava.models.functions import attention, silu
from mlx_llava.models.mlx_lm_parts import QuantizedKVCache, scaled_dot_product_attention


def rope_wavelengths(rope: RopeConfig, head_dim: int) -> mx.array:
    """Positions per radian of each pair, as `mx.fast.rope` takes them: `[head_dim / 2]`.

    `linear` divides every position by the factor. `llama3` stretches long waves by the factor, keeps short
    ones, and blends between (Llama 3.1 reference code, `apply_scaling`).
    """
    waves = rope.rope_theta ** (np.arange(0, head_dim, 2) / head_dim)
    if rope.rope_type == "linear":
        waves = waves * rope.factor
    if rope.rope_type == "llama3":
        turns = rope.original_max_position_embeddings / (2 * np.pi * waves)  # in the original context
        low, high = rope.low_freq_factor, rope.high_freq_factor
        keep = np.clip((turns - low) / (high - low), 0, 1)
        waves = waves / (keep + (1 - keep) / rope.factor)
    return mx.array(waves.astype(np.float32))


def causal_mask(length: int, window: int | None, cache: Any) -> mx.array | str | None:
    """Mask for `length` new positions: each attends to itself and earlier ones, at most `window` in all."""
    if cache is not None:
        return cache.make_mask(length, return_array=False, window_size=window)
    if window is None or length <= window:
        return "causal"
    position = mx.arange(length)
    distance = position[:, None] - position[None]
    return (distance >= 0) & (distance < window)


class Attention(nn.Module):
    """Causal self-attention with rotary positions and grouped queries."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        width, dim, bias = config.hidden_size, config.head_dim, config.attention_bias
        heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_dim = dim
        self.scale = dim**-0.5
        self.q_proj = nn.Linear(width, heads * dim, bias=bias)
        self.k_proj = nn.Linear(width, kv_heads * dim, bias=bias)
        self.v_proj = nn.Linear(width, kv_heads * dim, bias=bias)
        self.o_proj = nn.Linear(heads * dim, width, bias=bias)
        self._wavelengths = rope_wavelengths(config.rope, dim)  # underscore: not a parameter

    def __call__(self, x: mx.array, mask: mx.array | str | None, cache: Any) -> mx.array:
        def split(y: mx.array) -> mx.array:  # [B, T, D] -> [B, heads, T, head_dim]
            return mx.unflatten(y, -1, (-1, self.head_dim)).swapaxes(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        offset = cache.offset if cache is not None else 0
        q, k = self.rope(q, offset), self.rope(k, offset)
        if cache is not None:
            k, v = cache.update_and_fetch(k, v)
        if isinstance(cache, QuantizedKVCache):
            y = scaled_dot_product_attention(q, k, v, cache=cache, scale=self.scale, mask=mask)  # pyright: ignore
        else:
            y = attention(q, k, v, self.scale, mask)
        return self.o_proj(y.swapaxes(1, 2).flatten(-2))

    def rope(self, x: mx.array, offset: int | mx.array) -> mx.array:
        """Rotate each pair of dimensions of `x [B, heads, T, head_dim]` by its position."""
        return mx.fast.rope(
            x, self.head_dim, traditional=False, base=None, scale=1.0, offset=offset, freqs=self._wavelengths
        )


class MLP(nn.Module):
    """SwiGLU: down(silu(gate(x)) · up(x))."""

    def __init__(self, width: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class DecoderLayer(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config.hidden_size, config.intermediate_size, config.mlp_bias)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str | None, cache: Any) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), mask, cache)
        return x + self.mlp(self.post_attention_layernorm(x))


BlockRunner = Callable[[DecoderLayer, mx.array, mx.array | str | None, Any], mx.array]
"""Runs one block on hidden states, a mask and a cache; a caller may act before, after, or in place of it."""


def forward(block: DecoderLayer, x: mx.array, mask: mx.array | str | None, cache: Any) -> mx.array:
    """Run a block and nothing else."""
    return block(x, mask, cache)


class Llama(nn.Module):
    """Token embedding, blocks and language head."""

    def __init__(self, config: TextConfig) -> None:
        super().__init__()
        self.vocab_size = config.vocab_size
        self.sliding_window = config.sliding_window
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [DecoderLayer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        if not config.tie_word_embeddings:
            self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def __call__(
        self, inputs: mx.array, cache: Sequence[Any] | None = None, input_embeddings: mx.array | None = None
    ) -> mx.array:
        """Logits `[B, T, vocab_size]` for ids `[B, T]`, or for `input_embeddings [B, T, hidden_size]` instead."""
        x = self.embed(inputs) if input_embeddings is None else input_embeddings
        return self.head(self.decode(x, cache))

    def embed(self, tokens: mx.array) -> mx.array:
        """Token embeddings `[B, T, hidden_size]` in the model's dtype; embeddings quantized as fp return bfloat16."""
        return self.embed_tokens(tokens).astype(self.norm.weight.dtype)

    def decode(self, x: mx.array, cache: Sequence[Any] | None = None, run_block: BlockRunner = forward) -> mx.array:
        """Hidden states after the last norm `[B, T, hidden_size]`; positions attend to themselves and earlier ones."""
        caches = cache or [None] * len(self.layers)
        mask = causal_mask(x.shape[1], self.sliding_window, caches[0])
        for block, block_cache in zip(self.layers, caches, strict=True):
            x = run_block(block, x, mask, block_cache)
        return self.norm(x)

    def head(self, x: mx.array) -> mx.array:
        """Logits in float32, as softmax needs them; tied checkpoints reuse the embedding."""
        logits = self.lm_head(x) if "lm_head" in self else self.embed_tokens.as_linear(x)
        return logits.astype(mx.float32)
