"""Text for people: untrusted text made safe for a terminal, long text shortened, sizes in bytes.

Untrusted are answers, file names, pasted text and loaded chats. Characters that a terminal would act on, and
characters that hide or reorder text, become visible symbols. Markup is not handled here: widgets that show such text
switch markup off.
"""

import os
import re
import unicodedata
from typing import TextIO

LINE = 4000  # characters of a line: wrapping a longer one stalls the screen
NAME = 200  # characters of a name, more than file systems allow
MARKS = 8  # zero-width characters in a row; no script needs as many

_JOINERS = "\u200c\u200d"  # join letters, and emoji
_NUMBER_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"  # "format", and yet visible
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters and marks that show nothing
_EMOJI = range(0x1F000, 0x1FB00)  # each Unicode version adds some that this Python may not know
_LINE_ENDS = "\u2028\u2029"
_ALLOWED = frozenset("\n\t" + _JOINERS + _NUMBER_SIGNS)


class _Symbols(dict[int, str]):
    """The replacement of each character, computed on first use."""

    def __missing__(self, code: int) -> str:
        self[code] = symbol = _symbol(chr(code))
        return symbol


def _symbol(character: str) -> str:
    code = ord(character)
    if character in _LINE_ENDS:
        return "\n"
    if character in _ALLOWED or unicodedata.category(character) == "Zs":
        return character
    if (character.isprintable() and character not in _BLANK) or code in _EMOJI:
        return character
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


_SYMBOLS = _Symbols()
_LONG = re.compile(rf"[^\n]{{{LINE}}}(?=[^\n])")
_STRAY_JOINER = re.compile(rf"(?<![^\x00-\x7f])[{_JOINERS}]")  # after ASCII it joins nothing, and hides
_STACK = re.compile(rf"[^\x00-\x7f]{{{MARKS + 1},}}")


def printable(text: str) -> str:
    """The text with each unsafe character replaced by one symbol; its length, lines and tabs stay."""
    return text.translate(_SYMBOLS)


def visible(text: str) -> str:
    """`printable` text whose joiners and stacked marks are limited too; its length stays."""
    text = _STRAY_JOINER.sub("\N{REPLACEMENT CHARACTER}", printable(text))
    return _STACK.sub(lambda match: _thin(match[0]), text)


def clean(text: str) -> str:
    """`visible` text whose lines are limited too; clean text is unchanged."""
    if text.isascii() and text.isprintable() and len(text) <= LINE:
        return text
    return visible(break_lines(printable(text.replace("\r\n", "\n").replace("\r", "\n"))))


def break_lines(text: str, end: str = "\n") -> str:
    """The text with `end` inside each line longer than LINE."""
    return _LONG.sub(lambda match: match[0] + end, text)


def clean_line(text: str, limit: int = NAME) -> str:
    """Clean text on one line, for names, titles and errors; beyond `limit` characters the middle is left out."""
    if len(text) > limit:
        tail = limit // 3  # a file name's extension is at its end
        text = f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
    text = printable(text.replace("\r", "␍")).replace("\n", "␊").replace("\t", "␉")
    return clean(text)


def _thin(letters: str) -> str:
    """Replace zero-width characters beyond MARKS in a row."""
    thinned, marks = [], 0
    for letter in letters:
        marks = marks + 1 if letter in _JOINERS or unicodedata.category(letter)[0] == "M" else 0
        thinned.append(letter if marks <= MARKS else "\N{REPLACEMENT CHARACTER}")
    return "".join(thinned)


def escape(text: str, limit: int = 80) -> str:
    """Text from a file's internals on one line, with unprintable characters as Python escapes."""
    return shorten(repr(text[: limit + 1])[1:-1], limit)


def shorten(text: str, limit: int) -> str:
    """The first `limit` characters, ending in `...` if there are more."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def obeys_escapes(stream: TextIO) -> bool:
    """Whether escape sequences work on a stream: it is a terminal, and not a dumb one."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def size(num_bytes: float, decimals: int = 1) -> str:
    """A number of bytes in decimal GB or MB."""
    unit, divisor = ("GB", 1e9) if num_bytes >= 0.95e9 else ("MB", 1e6)
    return f"{num_bytes / divisor:.{decimals}f} {unit}"


def duration(seconds: float) -> str:
    """Seconds as text, such as `2 h 5 min`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
