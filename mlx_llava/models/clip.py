"""CLIP: the vision tower, which gives LLaVA hidden states, and the text tower and InfoNCE loss that train it.

Pixels are `[N, H, W, 3]`, hidden states `[N, 1 + patches, hidden_size]` with the class token first.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import mlx.core as mx
import mlx.nn as nn

from mlx_llava.config import ClipTextConfig, VisionConfig
from mlx_llava.models.functions import ACTIVATIONS, attention


class Attention(nn.Module):
    """Self-attention with biases on all four projections, as in CLIP."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.scale = (width // num_heads) ** -0.5
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def __call__(self, x: mx.array, mask: str | None = None) -> mx.array:
        def split(y: mx.array) -> mx.array:  # [N, T, D] -> [N, heads, T, D / heads]
            return mx.unflatten(y, -1, (self.num_heads, -1)).swapaxes(1, 2)

        q, k, v = split(self.q_proj(x)), split(self.k_proj(x)), split(self.v_proj(x))
        y = attention(q, k, v, self.scale, mask)
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

    def __init__(self, config: VisionConfig | ClipTextConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.self_attn = Attention(width, config.num_attention_heads)
        self.layer_norm1 = nn.LayerNorm(width, eps=eps)
        self.mlp = MLP(width, config.intermediate_size, config.hidden_act)
        self.layer_norm2 = nn.LayerNorm(width, eps=eps)

    def __call__(self, x: mx.array, mask: str | None = None) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x), mask)
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    """The class token and the patches, with learned positions."""

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
    """The blocks, under the name that they have in checkpoints."""

    def __init__(self, config: VisionConfig | ClipTextConfig) -> None:
        super().__init__()
        self.layers = [EncoderLayer(config) for _ in range(config.num_hidden_layers)]


class VisionTower(nn.Module):
    """CLIP's image encoder up to the requested hidden states."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.embeddings = Embeddings(config)
        self.pre_layrnorm = nn.LayerNorm(width, eps=eps)  # misspelled in every CLIP checkpoint
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(width, eps=eps)  # for the pooled output, which LLaVA does not use

    def __call__(self, pixels: mx.array, layers: Sequence[int]) -> list[mx.array]:
        """Hidden states at `layers`, each `[N, 1 + patches, hidden_size]`."""
        return self.select(self.states(pixels), layers)

    def states(self, pixels: mx.array) -> Iterator[mx.array]:
        """Hidden states: the embeddings after `pre_layrnorm`, then the output of each block.

        A block runs when its output is requested.
        """
        x = self.pre_layrnorm(self.embeddings(pixels))
        yield x
        for layer in self.encoder.layers:
            x = layer(x)
            yield x

    def select(self, states: Iterable[mx.array], layers: Sequence[int]) -> list[mx.array]:
        """The states at `layers`, where negatives count from the end; requests none after the last of them."""
        indices = [n % (1 + len(self.encoder.layers)) for n in layers]
        needed = list(islice(states, 1 + max(indices)))
        return [needed[n] for n in indices]


class TextEmbeddings(nn.Module):
    """Tokens with learned positions."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def __call__(self, tokens: mx.array) -> mx.array:
        return self.token_embedding(tokens) + self.position_embedding.weight[: tokens.shape[1]]


class TextTower(nn.Module):
    """CLIP's text encoder: causal, pooled at the last token of each text."""

    def __init__(self, config: ClipTextConfig) -> None:
        super().__init__()
        self.embeddings = TextEmbeddings(config)
        self.encoder = Encoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def __call__(self, tokens: mx.array, ends: mx.array) -> mx.array:
        """Pooled vectors `[N, hidden_size]` of `tokens [N, T]`, whose last tokens are at `ends [N]`."""
        x = self.embeddings(tokens)
        for layer in self.encoder.layers:
            x = layer(x, "causal")
        return self.final_layer_norm(x[mx.arange(len(x)), ends])


class Clip(nn.Module):
    """Images and texts as unit vectors in one space."""

    def __init__(self, vision: VisionConfig, text: ClipTextConfig, width: int) -> None:
        super().__init__()
        self.vision_model = VisionTower(vision)
        self.text_model = TextTower(text)
        self.visual_projection = nn.Linear(vision.hidden_size, width, bias=False)
        self.text_projection = nn.Linear(text.hidden_size, width, bias=False)
        self.logit_scale = mx.array(math.log(1 / 0.07))  # Radford et al. 2021, section 2.5

    def project(self, states: mx.array) -> mx.array:
        """Hidden states of the vision tower as unit vectors."""
        return unit(self.visual_projection(self.vision_model.post_layernorm(states)))

    def texts(self, tokens: mx.array, ends: mx.array) -> mx.array:
        """Texts `[N, T]` with last tokens at `ends [N]`, as unit vectors `[N, width]`."""
        return unit(self.text_projection(self.text_model(tokens, ends)))

    def similarity(self, images: mx.array, texts: mx.array) -> mx.array:
        """Scaled cosine similarities `[images, texts]`."""
        scale = mx.exp(mx.minimum(self.logit_scale, math.log(100)))  # upper bound of the paper
        return scale * images @ texts.T


def unit(x: mx.array) -> mx.array:
    """Scale vectors to length 1."""
    return x * mx.rsqrt(x.square().sum(-1, keepdims=True))


def info_nce(similarity: mx.array) -> mx.array:
    """The symmetric contrastive loss of similarities `[N, N]` whose matching pairs are on the diagonal."""
    pairs = mx.arange(len(similarity))
    losses = [mx.fast.cross_entropy(x, pairs).mean() for x in (similarity, mx.contiguous(similarity.T))]
    return (losses[0] + losses[1]) / 2
