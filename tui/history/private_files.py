"""Files and folders that only their owner can read."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_llava.program.atomic import write_file


def private_folder(folder: Path) -> Path:
    """The folder, created if it is missing, with access for its owner alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def private_opener(path: str, flags: int) -> int:
    """An `opener` for `open` that creates files with access for their owner alone."""
    return os.open(path, flags, 0o600)


def write_private(file: Path, data: bytes) -> None:
    """Write a private file that appears whole or not at all and survives a power failure."""
    write_file(file, data, mode=0o600)


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold a lock file that other windows wait for."""
    with open(lock, "w", opener=private_opener) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
