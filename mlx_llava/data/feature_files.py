"""What a frozen vision tower makes of pictures, on disk: a picture that is known need not be opened.

Knows no tower: a number that tells it from others comes in, and arrays of one shape. Never imports MLX.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlx_llava.inputs import Batch, no_crops
from mlx_llava.program.atomic import write_file

DIGEST = hashlib.sha256().digest_size  # at the start of a file, over its key and what follows
HALF = "uint16"  # the bits of a float16 or bfloat16, which NumPy need not understand


@dataclass(frozen=True)
class FeatureFiles:
    """A folder with one file for each picture; several runs may share it."""

    folder: Path
    tower: str
    """Tells the tower's weights, and how it is shown pictures, from any others."""
    shape: tuple[int, int]
    """Rows of a picture, numbers of a row."""
    dtype: str
    """`float32`, or HALF."""

    def key(self, image: Path) -> str | None:
        """The name of what this tower makes of a picture file; None where it cannot be read."""
        try:
            with image.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None
        return hashlib.sha256(f"{self.tower} {self.shape} {self.dtype} {content}".encode()).hexdigest()

    def read(self, key: str) -> NDArray[Any] | None:
        """The features of that name; None where there are none, or another file stands there, or a damaged one."""
        try:
            data = self._path(key).read_bytes()
        except OSError:
            return None
        payload = data[DIGEST:]
        rows, width = self.shape
        whole = len(payload) == rows * width * np.dtype(self.dtype).itemsize and data[:DIGEST] == _digest(key, payload)
        return np.frombuffer(payload, self.dtype).reshape(self.shape) if whole else None

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
    """A batch whose pictures have names, and features where all of them are known; then it has no crops."""

    keys: tuple[str | None, ...] = ()
    seen: NDArray[Any] | None = None  # [N, rows, width]


def feature_batch(batch: Batch, keys: Sequence[str | None], seen: NDArray[Any] | None) -> FeatureBatch:
    """A batch, with what is known of its pictures."""
    values = {field.name: getattr(batch, field.name) for field in fields(Batch)}
    if seen is not None:
        values["crops"] = no_crops()
    return FeatureBatch(**values, keys=tuple(keys), seen=seen)


def read_all(files: FeatureFiles, keys: Sequence[str | None]) -> NDArray[Any] | None:
    """The features of all pictures of a batch `[N, rows, width]`; None unless every one is known, and there are any."""
    found = []
    for key in keys:
        features = None if key is None else files.read(key)
        if features is None:
            return None
        found.append(features)
    return np.stack(found) if found else None


def _digest(key: str, payload: bytes) -> bytes:
    return hashlib.sha256(key.encode() + payload).digest()
