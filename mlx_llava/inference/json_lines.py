"""JSON lines: files of questions, and files of answers that an interrupted run leaves and the next one continues.

Lines end at a newline and nowhere else: JSON strings may contain U+2028, U+0085 and other characters at which
`str.splitlines` cuts.
"""

import json
from pathlib import Path
from typing import Any

from mlx_llava.errors import UsageError

Row = dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """The objects of a file; blank lines are skipped."""
    if not path.exists():
        raise UsageError(f"{path}: no such file", "Check the path.")
    return _rows(path, path.read_bytes().removeprefix(b"\xef\xbb\xbf"))


class AnswerFile:
    """A file of answers: those of earlier runs are read, new ones are appended."""

    def __init__(self, path: Path) -> None:
        if path.exists() and not path.is_file():
            raise UsageError(f"{path}: not a file of answers", "Name a new file, or one that an earlier run wrote.")
        if not path.parent.is_dir():
            raise UsageError(f"{path}: no such folder", "Create it, or name another file for the answers.")
        data = path.read_bytes() if path.exists() else b""
        self._path = path
        self._whole, self._unended = _without_torn_line(data)
        self.rows = _rows(path, data[: self._whole])
        """The answers of earlier runs."""

    def __enter__(self) -> "AnswerFile":
        """Open the file to append to it; half a line, left by a run that was killed, is cut off first."""
        self._file = self._path.open("ab", buffering=0)
        self._file.truncate(self._whole)
        if self._unended:
            self._append(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, row: Row) -> None:
        """Append one row, without a buffer: it is in the file when this returns."""
        self._append(json.dumps(row).encode() + b"\n")

    def _append(self, data: bytes) -> None:
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            error.filename = str(self._path)  # a full disk has no name of its own
            raise


def _without_torn_line(data: bytes) -> tuple[int, bool]:
    """How many bytes are whole lines, and whether only the newline of the last one is missing."""
    last = data[data.rfind(b"\n") + 1 :]
    try:
        json.loads(last)
    except ValueError:
        return len(data) - len(last), False
    return len(data), True


def _rows(path: Path, data: bytes) -> list[Row]:
    rows = [_row(path, number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    return [row for row in rows if row]


def _row(path: Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{path}: line {number} is not UTF-8 text", "Save the file as UTF-8.") from None
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: line {number} is not JSON", "Give one JSON object on each line.") from None
    if not isinstance(row, dict):
        raise UsageError(f"{path}: line {number} is not an object", "Give one JSON object on each line.")
    return row
