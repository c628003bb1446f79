"""Regular files read at an offset: opened for reading only, and noticed when they change."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from mlx_llava.errors import CheckpointError

PIECE = 1 << 20  # bytes per pread: macOS refuses 2 GiB, and larger pieces are not faster


class Stamp(NamedTuple):
    """Identifies a file and its state: equal stamps mean that the file has not changed."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@contextmanager
def opened(file: Path) -> Iterator[tuple[int, Stamp]]:
    """A read-only descriptor of a file, and its stamp; CheckpointError unless it is a regular file."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # without O_NONBLOCK a FIFO waits for its writer
    except OSError as error:
        raise CheckpointError(f"{spell(file)}: {error.strerror}", "Name a file that can be read.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise damaged(f"{spell(file)} is not a regular file")
        yield descriptor, stamp_of(status)
    finally:
        os.close(descriptor)


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def check_unchanged(file: Path, stamp: Stamp) -> None:
    """Raise CheckpointError if a file was rewritten, replaced or removed since it had this stamp."""
    try:
        unchanged = stamp_of(file.stat()) == stamp
    except OSError:
        unchanged = False
    if not unchanged:
        raise changed(spell(file))


def read_at(descriptor: int, count: int, offset: int, where: str) -> bytearray:
    """Exactly `count` bytes; by pread, not mmap, so that a file that shrinks is an error and not a SIGBUS."""
    data = bytearray(count)
    done = 0
    while done < count:
        try:
            piece = os.pread(descriptor, min(count - done, PIECE), offset + done)
        except OSError as error:
            raise damaged(f"{where} cannot be read: {error.strerror}") from None
        if not piece:
            raise changed(where)
        data[done : done + len(piece)] = piece
        done += len(piece)
    return data


def damaged(problem: str) -> CheckpointError:
    """The error for a file whose contents cannot be right."""
    return CheckpointError(problem, "Download or convert the checkpoint again.")


def changed(where: str) -> CheckpointError:
    """The error for a file that was rewritten, replaced or removed since its header was read."""
    return CheckpointError(f"{where} changed while it was read", "Start again when nothing writes to it.")


def spell(path: Path) -> str:
    """A path on one line."""
    return repr(str(path))[1:-1]
