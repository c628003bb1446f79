"""Remembers which image files were readable, by their paths, sizes and modification times."""

import hashlib
import importlib.metadata
import io
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.config import ImageConfig
from mlx_llava.data.loader import loader
from mlx_llava.program.atomic import write_file
from mlx_llava.program.paths import cache_folder

CHUNK = 2000  # files looked up in one job
NO_FILE = 0  # the key of a file that cannot be found
Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class FileKeys:
    """Keys of files in a folder; can be sent to a worker."""

    folder: str
    """An absolute path."""

    def __call__(self, names: Sequence[str]) -> Keys:
        """A key for each file, which changes with its size and modification time."""
        return np.fromiter(map(self._key, names), np.uint64, len(names))

    def _key(self, name: str) -> int:
        path = name if name.startswith("/") else f"{self.folder}/{name}"
        try:
            status = os.stat(path)  # noqa: PTH116
        except (OSError, ValueError):
            return NO_FILE
        text = f"{os.path.normpath(path)} {status.st_size} {status.st_mtime_ns}"
        return int.from_bytes(
            hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little"
        )


def file_keys(folder: Path, names: Sequence[str], num_workers: int) -> Keys:
    """A key for each of these files."""
    keys = FileKeys(str(folder.absolute()))
    jobs = ((start, names[start : start + CHUNK]) for start in range(0, len(names), CHUNK))
    with loader(keys, jobs, num_workers if len(names) > CHUNK else 0) as results:
        return np.concatenate([np.zeros(0, np.uint64), *(chunk for _, chunk in results)])


class ReadableImages:
    """The readable images of a folder, for this Pillow and this way to crop."""

    def __init__(self, folder: Path, config: ImageConfig) -> None:
        settings = [os.path.abspath(folder), importlib.metadata.version("pillow"), config.side, config.fit]  # noqa: PTH100
        name = hashlib.sha256(repr(settings).encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.file = cache_folder() / "readable-images" / f"{name}.npy"
        self.keys = _load(self.file)

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        """Which of the files are known to be readable."""
        return np.isin(keys, self.keys) & (keys != NO_FILE)

    def add(self, keys: Keys) -> None:
        """Remember more; where nothing can be written, the next run opens them again."""
        new = keys[keys != NO_FILE]
        if not len(new):
            return
        out = io.BytesIO()
        np.save(out, np.union1d(self.keys, new))
        with suppress(OSError):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self.file, out.getvalue(), durable=False)


def _load(file: Path) -> Keys:
    try:
        keys = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return np.zeros(0, np.uint64)
    return keys if keys.dtype == np.uint64 and keys.ndim == 1 else np.zeros(0, np.uint64)
