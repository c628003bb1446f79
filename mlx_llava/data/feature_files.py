"""A disk cache of vision features: an image whose features are cached need not be opened.

Does not know the tower, only its fingerprint and the shape of its features. Never imports MLX.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_llava.inputs import Batch, no_crops
from mlx_llava.program.atomic import write_file

DIGEST = hashlib.sha256().digest_size  # a file starts with the digest of its key and its payload
HALF = "uint16"  # the bits of float16 or bfloat16; NumPy has no bfloat16


@dataclass(frozen=True)
class FeatureFiles:
    """A folder with one file per image; several runs may share it."""

    folder: Path
    tower: str
    """Fingerprint of the tower's weights and preprocessing."""
    shape: tuple[int, int]
    """Rows per image, numbers per row."""
    dtype: str
    """`float32`, or HALF."""

    def key(self, image: Path) -> str | None:
        """The cache key of an image file; None if it cannot be read."""
        try:
            with image.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        return hashlib.sha256(f"{self.tower} {self.shape} {self.dtype} {content}".encode()).hexdigest()

    def read(self, key: str) -> NDArray[Any] | None:
        """The features of a key; None if they are not cached, or the file is damaged or belongs to another key."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        payload = data[DIGEST:]
        rows, width = self.shape
        intact = len(payload) == rows * width * np.dtype(self.dtype).itemsize and data[:DIGEST] == _digest(key, payload)
        return np.frombuffer(payload, self.dtype).reshape(self.shape) if intact else None

    def write(self, key: str, features: NDArray[Any]) -> None:
        """Keep the features of that name; the file appears whole. OSError where the disk is full."""
        if features.shape != self.shape or features.dtype != self.dtype:
            raise ValueError(f"features {features.dtype} {features.shape}, not {self.dtype} {self.shape}")
        path, payload = self._path(key), features.tobytes()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, _digest(key, payload) + payload, durable=False)  # the digest tells a damaged file

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / key


@dataclass(frozen=True)
class FeatureBatch(Batch):
    """A batch with cache keys for its images, and their features if all are cached; then it has no crops."""

    keys: tuple[str | None, ...] = ()
    features: NDArray[Any] | None = None  # [N, rows, width]


def feature_batch(batch: Batch, keys: Sequence[str | None], features: NDArray[Any] | None) -> FeatureBatch:
    """A batch with the cache keys and cached features of its images."""
    batch = batch if features is None else replace(batch, crops=no_crops())
    return FeatureBatch(**vars(batch), keys=tuple(keys), features=features)


def read_all(files: FeatureFiles, keys: Sequence[str | None]) -> NDArray[Any] | None:
    """The features `[N, rows, width]` of all images of a batch; None if any is not cached, or there are no images."""
    arrays = []
    for key in keys:
        features = None if key is None else files.read(key)
        if features is None:
            return None
        arrays.append(features)
    return np.stack(arrays) if arrays else None


def _digest(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + payload).digest()
