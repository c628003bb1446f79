"""Caches the frozen vision tower's features on disk, so epochs after the first never run it.

Images are encoded one at a time, so cached features do not depend on the batch an image first appears in.
"""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten

from mlx_llava.config import LlavaConfig
from mlx_llava.data.feature_files import HALF, FeatureBatch, FeatureFiles
from mlx_llava.inputs import Batch, no_crops
from mlx_llava.models.llava import Llava

FORMAT = 1  # increase when the file's content changes, or how images become pixels


def open_feature_files(folder: Path, model: Llava, config: LlavaConfig) -> FeatureFiles:
    """The cache in a folder for this model's tower and the config's preprocessing."""
    width = config.vision.hidden_size * len(model.feature_layers)
    dtype = "float32" if model.vision_dtype == mx.float32 else HALF
    return FeatureFiles(folder, tower_fingerprint(model, config), (config.rows_per_crop, width), dtype)


def tower_fingerprint(model: Llava, config: LlavaConfig) -> str:
    """A hash of everything that features depend on besides the image: weights, layers, preprocessing, Pillow."""
    pillow = importlib.metadata.version("pillow")
    settings = [FORMAT, pillow, asdict(config.image), list(model.feature_layers), model.keep_class_token]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    flat: list[tuple[str, mx.array]] = tree_flatten(model.vision_tower.parameters())  # pyright: ignore
    for name, weight in sorted(flat):
        digest.update(json.dumps([name, str(weight.dtype), weight.shape]).encode())
        digest.update(np.array(weight.reshape(-1).view(mx.uint8)).tobytes())
    return digest.hexdigest()


def add_features(model: Llava, files: FeatureFiles | None, batch: Batch) -> Batch:
    """The batch with features for its images, computed and cached unless it already has them or there is no cache."""
    if files is None or not isinstance(batch, FeatureBatch) or batch.features is not None or not len(batch.crops):
        return batch
    features = []
    for key, crop in zip(batch.keys, batch.crops, strict=True):
        encoded = model.vision_features(model.vision_states(crop[None]))[0]
        features.append(np.array(encoded if encoded.dtype == mx.float32 else encoded.view(mx.uint16)))
        if key is not None:
            files.write(key, features[-1])
    return replace(batch, crops=no_crops(), features=np.stack(features))
