"""A folder that appears whole or not at all.

It is filled aside, under a hidden name beside its place, brought to the disk and renamed; an old folder that
it replaces is moved aside first and removed last. A process that is killed leaves hidden folders at most.
"""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlx_llava.convert.weights.progress import size
from mlx_llava.errors import ConversionError, LimitError, LlavaError


def check_apart(target: Path, *needed: Path | str | None) -> None:
    """Raise ConversionError where `target` is or holds a folder that is read, or kept, while it is replaced."""
    for path in needed:
        if path is not None and Path(path).resolve().is_relative_to(target.resolve()):
            raise ConversionError(f"{target}: holds {path}, which is still needed", "Choose another --mlx-path.")


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConversionError unless `target` is free, or may be replaced: only a converted or an empty folder may."""
    if not target.exists():
        return
    if not overwrite:
        raise ConversionError(f"{target}: already there", "Choose another --mlx-path, or add --overwrite.")
    if not _is_ours(target):
        raise ConversionError(
            f"{target}: not a converted folder, so --overwrite leaves it alone",
            "Remove it yourself, or choose another --mlx-path.",
        )


@contextmanager
def appearing(target: Path, overwrite: bool, num_bytes: int) -> Iterator[Path]:
    """A folder to fill with about `num_bytes`, which is put in the place of `target` at the end of the `with`.

    Raises LlavaError where the disk does not take it; then, and after any other error, what was there stays.
    """
    check_target(target, overwrite)
    target = target.resolve()
    aside = target.parent / f".{target.name}-{secrets.token_hex(4)}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if num_bytes > free:
            raise LimitError(
                f"{target}: takes {size(num_bytes)}, {size(free)} are free on this disk",
                "Free some space, choose another --mlx-path, or use fewer bits.",
            )
        aside.mkdir()
        yield aside
        for file in (*aside.iterdir(), aside):
            _sync(file)
        check_target(target, overwrite)  # again: it may have appeared meanwhile
        _swap(aside, target)
        _sync(target.parent)
    except OSError as error:
        raise LlavaError(
            f"{target}: {error.strerror or error}; nothing was written",
            "Check the free space and the permissions of the folder above it.",
        ) from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _swap(aside: Path, target: Path) -> None:
    """Rename `aside` to `target`; what stood there is put back if that fails."""
    old = aside.with_name(f"{aside.name}-old")
    replaced = target.exists()
    if replaced:
        target.rename(old)
    try:
        aside.rename(target)
    except BaseException:
        if replaced:
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or has the config.json of a converted one."""
    try:
        if not any(folder.iterdir()):
            return True
        return "mlx_llava" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
