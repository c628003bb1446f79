"""Where the terminal chat keeps what is nobody else's business: chats and settings, for their owner's eyes alone."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

from mlx_llava.program.atomic import write_file
from mlx_llava.program.paths import HOME, expanded


def data_folder() -> Path:
    """The folder for what nobody can make again."""
    if home := os.environ.get(HOME):
        return expanded(home) / "data"
    return platformdirs.user_data_path("mlx-llava", appauthor=False)


def config_folder() -> Path:
    """The folder for what a person chose."""
    if home := os.environ.get(HOME):
        return expanded(home) / "config"
    return platformdirs.user_config_path("mlx-llava", appauthor=False)


def private_folder(folder: Path) -> Path:
    """The folder, made if it is missing, which only its owner can enter."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return folder


def private(path: str, flags: int) -> int:
    """Opens a file that only its owner can read: the `opener` of `open`."""
    return os.open(path, flags, 0o600)


def write_private(file: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all, and stays after the power fails."""
    write_file(file, data, mode=0o600)


@contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Keep other windows waiting that want the same lock."""
    with open(lock, "w", opener=private) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
