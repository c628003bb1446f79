"""The small vision tower that every side trains: its config, initial weights, images and labels.

A linear head classifies each patch's last hidden state. 1.06 million weights.
"""

from zlib import crc32

import numpy as np
from numpy.typing import NDArray

CONFIG = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "image_size": 96,
    "patch_size": 12,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
}
BATCH_SIZE, PATCHES, CLASSES = 32, 64, 150
RATE = 1e-3
HEAD = "head.weight"


def weight(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The initial weight of a name, in the layout of torch."""
    if "norm" in name and name.endswith(".weight"):
        return np.ones(shape, np.float32)
    return np.random.default_rng(crc32(name.encode())).normal(0, 0.05, shape).astype(np.float32)


def pixels() -> NDArray[np.float32]:
    """Images `[BATCH_SIZE, 96, 96, 3]`."""
    side = CONFIG["image_size"]
    return np.random.default_rng(0).standard_normal((BATCH_SIZE, side, side, 3)).astype(np.float32)


def labels() -> NDArray[np.int32]:
    """The class of each patch, `[BATCH_SIZE, PATCHES]`."""
    return np.random.default_rng(1).integers(0, CLASSES, (BATCH_SIZE, PATCHES)).astype(np.int32)
