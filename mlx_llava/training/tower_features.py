"""The frozen tower's features, kept on disk: epochs after the first never run it.

Each picture is seen alone, so that what is kept does not depend on the batch that met it first.
"""

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from mlx.utils import tree_flatten
from numpy.typing import NDArray

from mlx_llava.config import LlavaConfig
from mlx_llava.data.feature_files import HALF, FeatureBatch, FeatureFiles
from mlx_llava.inputs import Batch, no_crops
from mlx_llava.models.llava import Llava

FORMAT = 1  # changes with what a file holds, or with how pictures become pixels


def feature_files(folder: Path, model: Llava, config: LlavaConfig) -> FeatureFiles:
    """The files of this model's tower, which is shown pictures as the config says, in a folder."""
    width = config.vision.hidden_size * len(model.feature_layers)
    dtype = "float32" if model.vision_dtype == mx.float32 else HALF
    return FeatureFiles(folder, tower_fingerprint(model, config), (config.rows_per_crop, width), dtype)


def tower_fingerprint(model: Llava, config: LlavaConfig) -> str:
    """A hash of all that features depend on, but the picture: weights, layers, preprocessing, Pillow."""
    pillow = importlib.metadata.version("pillow")
    about = [FORMAT, pillow, asdict(config.image), list(model.feature_layers), model.keep_class_token]
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    flat: list[tuple[str, mx.array]] = tree_flatten(model.vision_tower.parameters())  # pyright: ignore
    for name, weight in sorted(flat):
        digest.update(json.dumps([name, str(weight.dtype), weight.shape]).encode())
        digest.update(np.array(weight.reshape(-1).view(mx.uint8)).tobytes())
    return digest.hexdigest()


def with_features(model: Llava, files: FeatureFiles, batch: Batch) -> Batch:
    """The batch with features for its pictures; those that were not known are made, and kept for the next time."""
    if not isinstance(batch, FeatureBatch) or batch.seen is not None or not len(batch.crops):
        return batch
    seen = []
    for key, crop in zip(batch.keys, batch.crops, strict=True):
        seen.append(_features(model, crop[None]))
        if key is not None:
            files.write(key, seen[-1])
    return replace(batch, crops=no_crops(), seen=np.stack(seen))


def _features(model: Llava, crops: NDArray[np.float32]) -> NDArray[Any]:
    features = model.vision_features(model.on_device(crops))[0]
    return np.array(features if features.dtype == mx.float32 else features.view(mx.uint16))
