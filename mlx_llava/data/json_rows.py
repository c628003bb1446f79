"""Finds the rows of a JSON list or of JSON lines: their places in the file.

The file is read through a small window, so memory does not grow with its size. Knows nothing of what a row means.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from mlx_llava.errors import RecordError

WINDOW = 1 << 20  # bytes of a list read at a time
LARGEST = 1 << 26  # bytes of a row at most
LAYOUTS = "Save the records as a list, [ ... ], or one record per line."
BOM = b"\xef\xbb\xbf"
UTF_16 = ("\xff\xfe", "\xfe\xff")  # byte order marks
WHITE = " \t\n\r"
_white = re.compile(f"[{WHITE}]*")
_wrapper = re.compile(r'\{\s*"([^"\\]+)"\s*:\s*\[\s*\{')
_scan = json.JSONDecoder().raw_decode


class Fault(Exception):  # noqa: N818 - collected and reported, not fatal
    """What is wrong with one row; `advice` says what to do if that is not to fix it."""

    def __init__(self, problem: str, advice: str = "") -> None:
        super().__init__(problem)
        self.advice = advice


class Row(NamedTuple):
    """A row: its number and line, both from 1, and its bytes in the file."""

    number: int
    line: int
    offset: int
    size: int
    fault: Fault | None = None
    """Why it is not a row; `parse` finds what this leaves open."""


def rows(file: BinaryIO, path: Path) -> Iterator[Row]:
    """The rows of a file: a list if it begins with a bracket, lines otherwise.

    Raises RecordError with the path for a file that is neither.
    """
    start = len(BOM) if file.read(len(BOM)) == BOM else 0
    head = _window(file, start, WINDOW)
    if fault := _not_rows(head):
        raise RecordError(f"{path}: {fault}", fault.advice)
    first = _end_of_white(head, 0)
    if head[first : first + 1] == "[":
        return _in_list(file, start + first + 1, 1 + head.count("\n", 0, first))
    return _in_lines(file, start)


def parse(data: bytes) -> Any:
    """The value of one row, or a Fault if it is not JSON."""
    try:
        return json.loads(data.decode().removeprefix("\ufeff"))  # of files that were joined
    except (ValueError, RecursionError) as error:
        return Fault(_reason(error))


def _not_rows(head: str) -> Fault | None:
    """Why a file that begins like this is neither a list nor JSON lines; a broken first line is no reason."""
    if head.startswith(UTF_16) or ("\0" in head[:4] and {*head[:4]} & {"[", "{"}):
        return Fault("UTF-16 or UTF-32 text, not UTF-8", "Save the file as UTF-8.")
    lines = [line.strip(WHITE) for line in head.split("\n") if line.strip(WHITE)][:2]
    if not lines or lines[0].startswith("["):
        return None
    if not any(line.startswith("{") for line in lines):
        start = lines[0][:40].encode("latin-1").decode(errors="replace")
        return Fault(f"not JSON: it begins with {start!r}", LAYOUTS)
    if len(lines) == 1 or not _is_cut(lines[0]) or isinstance(parse(lines[1].encode("latin-1")), dict):
        return None
    wrapper = _wrapper.match(head.strip(WHITE))
    what = f"its records are under {wrapper[1]!r}" if wrapper else "it runs over several lines"
    return Fault(f"one JSON object, not a list or JSON lines: {what}", LAYOUTS)


def _is_cut(line: str) -> bool:
    """Whether a line is the beginning of a JSON object and no more."""
    try:
        _scan(line)
    except json.JSONDecodeError as error:
        return line.startswith("{") and error.pos >= len(line) - 1
    except (ValueError, RecursionError):
        pass
    return False


def _in_lines(file: BinaryIO, start: int) -> Iterator[Row]:
    """Not str.splitlines: a JSON string may contain a raw U+2028."""
    file.seek(start)
    number = line = 0
    while data := file.readline(LARGEST):
        line, size, end = line + 1, len(data), data
        while len(end) == LARGEST and not end.endswith(b"\n"):
            end = file.readline(LARGEST)
            size += len(end)
        if data.strip():
            number += 1
            fault = None if size == len(data) else Fault(f"longer than {LARGEST:,} bytes", LAYOUTS)
            yield Row(number, line, start, size, fault)
        start += size


def _in_list(file: BinaryIO, at: int, line: int) -> Iterator[Row]:
    """Rows after the opening bracket; the first one that is not JSON ends the list."""
    number, size = 0, WINDOW
    while True:
        text = _window(file, at, size)
        done = 0
        try:
            if number == 0 and text[_end_of_white(text, 0)] == "]":
                return
            while done == 0 or text[done - 1] == ",":
                start, end, after = _item(text, done)
                number, line = number + 1, line + text.count("\n", done, start)
                yield Row(number, line, at + start, end - start)
                line, done = line + text.count("\n", start, after), after + 1
        except (ValueError, IndexError, RecursionError) as error:  # broken, or it continues beyond the window
            if not done and (len(text) < size or size >= LARGEST):
                line += error.lineno - 1 if isinstance(error, json.JSONDecodeError) else 0
                yield Row(number + 1, line, at, len(text), Fault(_reason(error)))
                return
            at, size = at + done, WINDOW if done else 4 * size
            continue
        if _window(file, at + done, LARGEST).strip():
            yield Row(number + 1, line, at + done, 0, Fault("there is text after the end of the list"))
        return


def _item(text: str, at: int) -> tuple[int, int, int]:
    """Start and end of the next item of a list, and the position of the comma or bracket after it.

    Without that, a bare number may continue beyond the window.
    """
    start = _end_of_white(text, at)
    _, end = _scan(text, start)
    after = _end_of_white(text, end)
    if text[after] not in ",]":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, after)
    return start, end, after


def _window(file: BinaryIO, at: int, size: int) -> str:
    """Bytes as Latin-1, so that text positions are file offsets; brackets and quotes are the same in UTF-8."""
    file.seek(at)
    return file.read(size).decode("latin-1")


def _end_of_white(text: str, at: int) -> int:
    match = _white.match(text, at)
    return match.end() if match else at


def _reason(error: Exception) -> str:
    match error:
        case json.JSONDecodeError():
            return f"not JSON: {error.msg}"
        case UnicodeDecodeError():
            return f"not UTF-8 at its byte {error.start}"
        case RecursionError():
            return "nested too deeply"
        case IndexError():
            return "not JSON: the list is cut off"
        case _:
            return f"not JSON: {error}"
