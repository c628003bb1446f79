"""LLaVA: a CLIP vision tower, a projector and Vicuna. Sees arrays only.

What a token shows was decided before (`slots`): the model computes features once and gathers them.
"""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_llava.config import LlavaConfig
from mlx_llava.inputs import TEXT, Batch
from mlx_llava.models.clip import VisionTower
from mlx_llava.models.llama import Llama
from mlx_llava.models.projector import Projector


def place(text: mx.array, features: mx.array, slots: mx.array) -> mx.array:
    """Put image features at the tokens whose slot asks for them.

    Args:
        text: token embeddings `[B, T, D]`.
        features: image features of all crops `[rows, D]`, at least one row.
        slots: `[B, T]`, a row number or TEXT.
    """
    rows = features[mx.maximum(slots, 0)]
    return mx.where((slots == TEXT)[..., None], text, rows.astype(text.dtype))


class Llava(nn.Module):
    """The three parts, joined."""

    def __init__(self, config: LlavaConfig) -> None:
        super().__init__()
        self.feature_layers = config.feature_layers
        self.keep_class_token = config.keep_class_token
        self.vision_tower = VisionTower(config.vision)
        self.projector = Projector(
            config.vision.hidden_size * len(config.feature_layers),
            config.text.hidden_size,
            config.projector_depth,
            config.projector_act,
            config.projector_bias,
        )
        self.language_model = Llama(config.text)

    def vision_features(self, crops: mx.array, before_block: Callable[[mx.array], None] | None = None) -> mx.array:
        """What the projector sees of crops `[N, H, W, 3]`: `[N, rows, hidden_size · feature layers]`."""
        states = self.vision_tower(crops, self.feature_layers, before_block)
        return mx.concatenate([s if self.keep_class_token else s[:, 1:] for s in states], axis=-1)

    def features(self, crops: mx.array, before_block: Callable[[mx.array], None] | None = None) -> mx.array:
        """Image features of all crops, one below the other: `[N · rows, text hidden_size]`."""
        return self.projector(self.vision_features(crops, before_block)).flatten(0, 1)

    def embed(self, tokens: mx.array, slots: mx.array, features: mx.array | None) -> mx.array:
        """The decoder's input `[B, T, D]`: token embeddings, with image features where the slots say so."""
        text = self.language_model.embed(tokens)
        return text if features is None else place(text, features, slots)

    def __call__(self, batch: Batch) -> mx.array:
        """Logits `[B, T, vocab_size]`; rows are padded on the right, where causality keeps padding out of sight."""
        crops = self.on_device(batch.crops)
        features = self.features(crops) if len(crops) else None
        x = self.embed(mx.array(batch.tokens), mx.array(batch.slots), features)
        return self.language_model.head(self.language_model.decode(x))

    @property
    def vision_dtype(self) -> mx.Dtype:
        """What the tower computes in."""
        return self.vision_tower.pre_layrnorm.weight.dtype

    def on_device(self, crops: np.ndarray) -> mx.array:
        """Pixels as the tower computes with them."""
        return mx.array(crops).astype(self.vision_dtype)
