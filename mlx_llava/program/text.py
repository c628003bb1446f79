"""Text that nobody vouches for, made safe to show: answers, file names, pasted text, loaded chats.

What a terminal would obey, and what would hide or turn what is written, becomes a visible symbol. Markup is no
business of this file: widgets that show such text have it switched off.
"""

import re
import unicodedata

LINE = 4000  # characters of a line: wrapping a longer one stalls the screen
NAME = 200  # characters of a name, more than file systems allow
MARKS = 8  # zero-width characters on top of each other; no writing needs as many

_JOINERS = "\u200c\u200d"  # join letters, and emoji
_NUMBER_SIGNS = "\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2"  # "format", and yet visible
_BLANK = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # letters and marks that show nothing
_EMOJI = range(0x1F000, 0x1FB00)  # every year brings some that this Python does not know
_LINE_ENDS = "\u2028\u2029"
_KEPT = frozenset("\n\t" + _JOINERS + _NUMBER_SIGNS)


class _Symbols(dict[int, str]):
    """What stands for each character, found when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = shown = _symbol(chr(code))
        return shown


def _symbol(character: str) -> str:
    code = ord(character)
    if character in _LINE_ENDS:
        return "\n"
    if character in _KEPT or unicodedata.category(character) == "Zs":
        return character
    if (character.isprintable() and character not in _BLANK) or code in _EMOJI:
        return character
    return chr(0x2400 + code) if code < 0x20 else "␡" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


_SYMBOLS = _Symbols()
_LONG = re.compile(rf"[^\n]{{{LINE}}}(?=[^\n])")
_STRAY_JOINER = re.compile(rf"(?<![^\x00-\x7f])[{_JOINERS}]")  # among ASCII it joins nothing, and hides
_STACK = re.compile(rf"[^\x00-\x7f]{{{MARKS + 1},}}")


def clean(text: str) -> str:
    """The text with its lines and tabs, and nothing that a terminal would obey. Clean text stays as it is."""
    if text.isascii() and text.isprintable() and len(text) <= LINE:
        return text
    text = text.replace("\r\n", "\n").replace("\r", "\n").translate(_SYMBOLS)
    text = _LONG.sub(r"\g<0>\n", text)
    text = _STRAY_JOINER.sub("\N{REPLACEMENT CHARACTER}", text)
    return _STACK.sub(lambda found: _thinned(found[0]), text)


def clean_line(text: str, limit: int = NAME) -> str:
    """The text on one line, its middle left out where it is longer than `limit`: for names, titles and errors."""
    if len(text) > limit:
        tail = limit // 3  # the end of a name tells its kind
        text = f"{text[: limit - tail - 1]}…{text[len(text) - tail :]}"
    text = text.replace("\r", "␍").translate(_SYMBOLS).replace("\n", "␊").replace("\t", "␉")
    return clean(text)


def _thinned(letters: str) -> str:
    """A word with at most MARKS zero-width characters in a row."""
    kept, marks = [], 0
    for letter in letters:
        marks = marks + 1 if letter in _JOINERS or unicodedata.category(letter)[0] == "M" else 0
        kept.append(letter if marks <= MARKS else "\N{REPLACEMENT CHARACTER}")
    return "".join(kept)
