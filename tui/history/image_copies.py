"""Copies of the images of saved chats, so that a chat still shows them when their files are gone.

An image is identified by the SHA-256 of its file. A large file on this machine is not copied: its path is enough.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_llava.errors import ImageError
from mlx_llava.tui.history.database import without_surrogates
from mlx_llava.tui.history.private_files import private_folder, write_private

MAX_COPY = 20_000_000  # bytes; a larger file is copied only if it has no path
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SavedImage:
    """An image of a message."""

    name: str
    digest: str
    """SHA-256 of the file."""
    size: tuple[int, int]
    origin: str = ""
    """Path of the file; empty without one, as for a pasted image."""
    off: bool = False
    """Hidden from the model."""
    data: bytes | None = field(default=None, repr=False, compare=False)
    """The file's content; needed only when the image is new to the history."""


def to_row(image: SavedImage) -> tuple[Any, ...]:
    """The database columns of an image; the path is stored as bytes, which need not be valid UTF-8."""
    origin = os.fsencode(image.origin) if image.origin else b""
    return without_surrogates(image.name), image.digest, *image.size, origin, image.off


def from_row(row: Sequence[Any]) -> SavedImage:
    """The image in such columns."""
    name, digest, width, height, origin, off = row
    return SavedImage(name, digest, (width, height), os.fsdecode(origin), bool(off))


class ImageCopies:
    """The copies in a folder, or in memory without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._in_memory: dict[str, bytes] = {}

    def add(self, image: SavedImage) -> None:
        """Copy an image unless there is a copy, or its own file is enough."""
        data = image.data
        if data is None or (len(data) > MAX_COPY and image.origin):
            return
        if self.folder is None:
            self._in_memory[image.digest] = data
        elif not (file := self._file(image.digest)).exists():
            private_folder(self.folder)
            private_folder(file.parent)
            write_private(file, data)

    def read(self, image: SavedImage) -> bytes:
        """The content of an image, from its copy or its original file; ImageError if neither has the same bytes."""
        if image.digest in self._in_memory:
            return self._in_memory[image.digest]
        paths = [] if self.folder is None else [self._file(image.digest)]
        paths += [Path(image.origin)] if image.origin else []
        contents = [data for path in paths if (data := _read(path)) is not None]
        for data in contents:
            if hashlib.sha256(data).hexdigest() == image.digest:
                return data
        where = f" at {image.origin}" if image.origin else ""
        problem = f"the file{where} has changed" if contents else f"the file{where} is missing"
        raise ImageError(f"{image.name}: {problem}", "Restore it, or attach the image again.")

    def delete(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._in_memory.pop(digest, None)
            if self.folder is not None:
                self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        if self.folder is None or not _DIGEST.fullmatch(digest):
            raise ImageError(f"{digest[:80]}: not the digest of an image", "Attach the image again.")
        return self.folder / digest[:2] / digest


def _read(path: Path) -> bytes | None:
    """The bytes of a file that may be an image; None if it is missing or too large."""
    from mlx_llava.images.pixels import MAX_BYTES  # late: it loads NumPy and Pillow

    try:
        return path.read_bytes() if path.is_file() and path.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError):
        return None
