"""Reads the rows of a JSON list or of JSON lines one at a time, with their offsets in the file.

The file is read through a small window, so memory does not grow with its size. Knows nothing of what a row means.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

WINDOW = 1 << 20  # bytes of a list read at a time
LARGEST = 1 << 26  # bytes of a row at most
BOM = b"\xef\xbb\xbf"
_white = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().raw_decode


class Fault(Exception):  # noqa: N818 - collected and reported, not fatal
    """What is wrong with one row."""


class Row(NamedTuple):
    """A row: its number and line, both from 1, its bytes in the file, and its value."""

    number: int
    line: int
    offset: int
    size: int
    value: Any
    """The parsed JSON, or a Fault if it is not JSON."""


def rows(file: BinaryIO) -> Iterator[Row]:
    """The rows of a file: a list if it begins with a bracket, lines otherwise."""
    start = len(BOM) if file.read(len(BOM)) == BOM else 0
    head = _window(file, start, WINDOW)
    first = _end_of_white(head, 0)
    if head[first : first + 1] == "[":
        return _in_list(file, start + first + 1, 1 + head.count("\n", 0, first))
    return _in_lines(file, start)


def parse(data: bytes) -> Any:
    """The value of one row, or a Fault if it is not JSON."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        return Fault(_reason(error))


def _in_lines(file: BinaryIO, start: int) -> Iterator[Row]:
    """Not str.splitlines: a JSON string may contain a raw U+2028."""
    file.seek(start)
    number = 0
    for line, data in enumerate(file, 1):
        if data.strip():
            number += 1
            yield Row(number, line, start, len(data), parse(data))
        start += len(data)


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
                start, end, value, after = _item(text, done)
                number, line = number + 1, line + text.count("\n", done, start)
                raw = text[start:end]
                value = value if raw.isascii() else parse(raw.encode("latin-1"))
                yield Row(number, line, at + start, len(raw), value)
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


def _item(text: str, at: int) -> tuple[int, int, Any, int]:
    """Start, end and value of the next item of a list, and the position of the comma or bracket after it.

    Without that, a bare number may continue beyond the window.
    """
    start = _end_of_white(text, at)
    value, end = _scan(text, start)
    after = _end_of_white(text, end)
    if text[after] not in ",]":
        raise json.JSONDecodeError("Expecting ',' delimiter", text, after)
    return start, end, value, after


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
