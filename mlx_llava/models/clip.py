"""CLIP's vision transformer as LLaVA uses it: hidden states out, no pooling.

Pixels are `[N, H, W, 3]`, hidden states `[N, 1 + patches, hidden_size]`, the class token first.
"""

from collections.abc import Sequence

import mlx.core as mx
import mlx.nn as nn

from mlx_llava.config import VisionConfig
from mlx_llava.models.activations import ACTIVATIONS


class Attention(nn.Module):
    """Self-attention with biases on all four projections, as CLIP has."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def __call__(self, x: mx.array) -> mx.array:
        def split(y: mx.array) -> mx.array:  # [N, T, D] -> [N, heads, T, D / heads]
            return mx.unflatten(y, -1, (self.num_heads, -1)).swapaxes(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        y = mx.fast.scaled_dot_product_attention(q, k, v, scale=self.scale)
        return self.out_proj(y.swapaxes(1, 2).flatten(-2))


class MLP(nn.Module):
    """Two linear layers around an activation."""

    def __init__(self, width: int, hidden: int, activation: str) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.activation(self.fc1(x)))


class EncoderLayer(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = Attention(width, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """Patches and the class token, each with its learned position."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, patch = config.hidden_size, config.patch_size
        self.class_embedding = mx.zeros((width,))
        self.patch_embedding = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.position_embedding = nn.Embedding(1 + config.num_patches, width)

    def __call__(self, pixels: mx.array) -> mx.array:
        patches = self.patch_embedding(pixels).flatten(1, 2)  # [N, patches, width], rows first
        first = mx.broadcast_to(self.class_embedding, (len(pixels), 1, patches.shape[-1]))
        return mx.concatenate([first, patches], axis=1) + self.position_embedding.weight


class Encoder(nn.Module):
    """The stack of blocks."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]


class VisionTower(nn.Module):
    """CLIP's image encoder up to the hidden states that were asked for."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)  # spelled so in every CLIP checkpoint
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(width, eps=eps)  # of the pooled output; LLaVA never uses it

    def __call__(self, pixels: mx.array, layers: Sequence[int]) -> list[mx.array]:
        """Hidden states at `layers`, each `[N, 1 + patches, hidden_size]`; blocks above the last one do not run.

        Entry 0 is the embedding after `pre_layrnorm`, entry n the output of block n; negatives count from the end.
        """
        entries = 1 + len(self.encoder.layers)
        wanted = [n % entries for n in layers]
        states = [self.pre_layrnorm(self.embeddings(pixels))]
        for layer in self.encoder.layers[: max(wanted)]:
            states.append(layer(states[-1]))
        return [states[n] for n in wanted]
