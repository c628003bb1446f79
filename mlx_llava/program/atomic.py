"""Files and folders that appear whole or not at all: written under a temporary name, synced, then renamed.

A process that is killed leaves hidden files and folders at most.
"""

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_llava.program.signals import interruptible, raise_if_interrupted


@interruptible()
def write_file(file: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Write a file, replacing an old one at once; `durable` data also survives a power failure.

    Args:
        mode: permissions, before the umask.
    """
    temporary = file.with_name(f".{file.name}-{os.getpid()}")
    try:
        with open(temporary, "wb", opener=lambda path, flags: os.open(path, flags, mode)) as out:
            out.write(data)
        if durable:
            sync(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(
    target: Path, temporary: Path | None = None, *, check: Callable[[], object] = lambda: None
) -> Iterator[Path]:
    """A folder to fill with files; it takes the place of `target` when the `with` ends without an error.

    An old `target` is moved away first and removed last, so that after any error it is still there.

    Args:
        temporary: where the folder is filled; a hidden name beside `target` by default.
        check: runs right before the folder is renamed; what it raises keeps `target` as it is.
    """
    with interruptible():
        temporary = temporary or target.with_name(f".{target.name}-{secrets.token_hex(4)}")
        try:
            temporary.mkdir()
            yield temporary
            raise_if_interrupted()
            for path in (*temporary.iterdir(), temporary):
                sync(path)
            check()
            _swap(temporary, target)
            sync(target.parent)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def new_files(folder: Path, temporary: Path, last: str) -> Iterator[Path]:
    """A folder to fill with files that move into `folder` when the `with` ends without an error.

    The old file named `last` is removed first and the new one arrives last: while it is missing, the others may be
    of different saves and are not to be read.
    """
    with interruptible():
        shutil.rmtree(temporary, ignore_errors=True)  # left by a save that was killed
        temporary.mkdir()
        try:
            yield temporary
            files = sorted(temporary.iterdir(), key=lambda file: file.name == last)
            for path in files:
                sync(path)
            (folder / last).unlink(missing_ok=True)
            for path in files:
                path.replace(folder / path.name)
            sync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(temporary: Path, target: Path) -> None:
    """Rename `temporary` to `target`; an old `target` is put back if that fails."""
    old = temporary.with_name(f"{temporary.name}-old")
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        temporary.rename(target)
    except BaseException:
        if replaced:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)
