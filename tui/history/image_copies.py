"""Copies of the pictures of kept chats, so that a chat shows them again when their files are gone.

A picture is known by the SHA-256 of its file. A large one that lies on this machine is only remembered by its path.
"""

import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlx_llava.errors import ImageError
from mlx_llava.tui.history.database import whole
from mlx_llava.tui.history.private_files import private_folder, write_private

COPIED = 20_000_000  # bytes; larger files are copied only where no other file holds them
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class SavedImage:
    """A picture of a message."""

    name: str
    digest: str
    """SHA-256 of the file that was shown."""
    size: tuple[int, int]
    origin: str = ""
    """Path of the file; empty where there is none, as for a pasted picture."""
    off: bool = False
    """Not shown to the model."""
    data: bytes | None = field(default=None, repr=False, compare=False)
    """The file; needed only when the picture is new to the history."""


def to_row(image: SavedImage) -> tuple[Any, ...]:
    """Columns of the database; a path may hold bytes that are no text."""
    origin = os.fsencode(image.origin) if image.origin else b""
    return whole(image.name), image.digest, *image.size, origin, image.off


def from_row(row: Sequence[Any]) -> SavedImage:
    """The picture of such columns."""
    name, digest, width, height, origin, off = row
    return SavedImage(name, digest, (width, height), os.fsdecode(origin), bool(off))


class Keepsakes:
    """The copies in a folder, or in memory where there is none."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._held: dict[str, bytes] = {}

    def keep(self, image: SavedImage) -> None:
        """Copy a picture, unless that was done before or its own file is enough."""
        data = image.data
        if data is None or (len(data) > COPIED and image.origin):
            return
        if self.folder is None:
            self._held[image.digest] = data
        elif not (file := self._file(image.digest)).exists():
            private_folder(self.folder)
            private_folder(file.parent)
            write_private(file, data)

    def find(self, image: SavedImage) -> bytes:
        """The file of a picture, from its copy or from where it lay; ImageError where neither shows the same."""
        places = [] if self.folder is None else [self._file(image.digest)]
        places += [Path(image.origin)] if image.origin else []
        if image.digest in self._held:
            return self._held[image.digest]
        found = [data for place in places if (data := _read(place)) is not None]
        for data in found:
            if hashlib.sha256(data).hexdigest() == image.digest:
                return data
        where = f" at {image.origin}" if image.origin else ""
        problem = f"the file{where} is another one now" if found else f"it is no longer there{where}"
        raise ImageError(f"{image.name}: {problem}", "Put it back, or attach it again.")

    def forget(self, digests: Iterable[str]) -> None:
        """Delete copies."""
        for digest in digests:
            self._held.pop(digest, None)
            if self.folder is not None:
                self._file(digest).unlink(missing_ok=True)

    def _file(self, digest: str) -> Path:
        if self.folder is None or not _DIGEST.fullmatch(digest):
            raise ImageError(f"{digest[:80]}: not the digest of a picture", "Attach the picture again.")
        return self.folder / digest[:2] / digest


def _read(place: Path) -> bytes | None:
    """The bytes of a file that might be a picture."""
    from mlx_llava.images.pixels import MAX_BYTES  # late: it loads NumPy and Pillow

    try:
        return place.read_bytes() if place.is_file() and place.stat().st_size <= MAX_BYTES else None
    except (OSError, ValueError):
        return None
