"""The file that records are read from, and how a change of it is noticed."""

import os
from io import BufferedReader
from pathlib import Path

from mlx_llava.errors import RecordError

Stamp = tuple[int, int]
"""Size and modification time."""


def open_file(file: Path, stamp: Stamp | None = None) -> BufferedReader:
    """Open a file for reading; RecordError if it cannot be, or has another stamp."""
    try:
        opened = file.open("rb")
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}", "Check the path and its permissions.") from None
    if stamp is not None and stamp_of(opened) != stamp:
        opened.close()
        raise RecordError(f"{file}: changed since it was checked", "Start again with the new file.")
    return opened


def stamp_of(file: BufferedReader) -> Stamp:
    """The stamp of an open file."""
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
