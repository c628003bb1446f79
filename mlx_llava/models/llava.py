"""LLaVA: a CLIP vision tower, a projector and a language model. Knows arrays only.

Which feature a position shows is decided before the model runs (`slots`): it computes features once and gathers them.
"""

from collections.abc import Iterable, Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from mlx_llava.config import LlavaConfig
from mlx_llava.inputs import TEXT, Batch
from mlx_llava.models.clip import VisionTower
from mlx_llava.models.llama import Llama
from mlx_llava.models.projector import Projector


def place(text: mx.array, features: mx.array, slots: mx.array) -> mx.array:
    """Replace token embeddings by image features at the positions whose slot names a row.

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
        width = config.vision.hidden_size * len(config.feature_layers)
        layers = config.projector_depth, config.projector_act, config.projector_bias
        self.projector = Projector(width, config.text.hidden_size, *layers)
        self.language_model = Llama(config.text)

    def vision_states(self, crops: np.ndarray) -> Iterator[mx.array]:
        """Hidden states of the tower for crops `[N, H, W, 3]`, which enter MLX here, in the tower's dtype."""
        return self.vision_tower.states(mx.array(crops).astype(self.vision_dtype))

    def vision_features(self, states: Iterable[mx.array]) -> mx.array:
        """The projector's input `[N, rows, hidden_size · feature layers]`; no block above the last layer runs."""
        states = self.vision_tower.select(states, self.feature_layers)
        return mx.concatenate([s if self.keep_class_token else s[:, 1:] for s in states], axis=-1)

    def features(self, states: Iterable[mx.array]) -> mx.array:
        """Image features of all crops in order: `[N · rows, text hidden_size]`."""
        return self.projector(self.vision_features(states)).flatten(0, 1)

    def embed(self, tokens: mx.array, slots: mx.array, features: mx.array | None) -> mx.array:
        """The decoder's input `[B, T, D]`: token embeddings, and image features where slots name a row."""
        text = self.language_model.embed(tokens)
        return text if features is None else place(text, features, slots)

    def __call__(self, batch: Batch) -> mx.array:
        """Logits `[B, T, vocab_size]`. Rows are padded on the right, where a causal mask hides the padding."""
        features = self.features(self.vision_states(batch.crops)) if len(batch.crops) else None
        x = self.embed(mx.array(batch.tokens), mx.array(batch.slots), features)
        return self.language_model.head(self.language_model.decode(x))

    @property
    def vision_dtype(self) -> mx.Dtype:
        """The dtype that the tower computes in."""
        return self.vision_tower.pre_layrnorm.weight.dtype
