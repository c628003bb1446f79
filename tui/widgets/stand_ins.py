"""Stand-ins in a text field for characters that must not reach the screen as they are.

A question goes to the model as it was typed or pasted, with hidden and control characters. A text field computes widths
and lines from the text it holds, so it holds one visible stand-in for each of them: a private-use character that is as
wide as the symbol drawn for it.
"""

import sys

from mlx_llava.program.text import break_lines, visible

FIRST = 0xF0000  # planes 15 and 16, for private use
_BREAK = chr(FIRST)  # before a line end that only the text field has
_originals: dict[int, str] = {FIRST: ""}
_symbols: dict[int, str] = {FIRST: "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"}
_stand_ins: dict[tuple[str, str], str] = {}  # of a character and its symbol


def encode(text: str) -> str:
    """A text for a text field; long lines are broken."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    shown = visible(text)
    if shown != text:
        text = "".join(a if a == b else _stand_in(a, b) for a, b in zip(text, shown, strict=True))
    return break_lines(text, f"{_BREAK}\n")


def encode_line(text: str) -> str:
    """A text for a field of one line."""
    return encode(text).replace(f"{_BREAK}\n", "").replace("\n", _stand_in("\n", "\n"))


def decode(text: str) -> str:
    """The text that was encoded."""
    return text.replace(f"{_BREAK}\n", "").translate(_originals)


def symbols(text: str) -> str:
    """An encoded text as it is drawn."""
    return text.translate(_symbols)


def _stand_in(character: str, symbol: str) -> str:
    if (character, symbol) not in _stand_ins:
        code = FIRST + len(_symbols)
        if code > sys.maxunicode:  # so many kinds are no question
            return symbol
        _originals[code], _symbols[code] = character, symbol if symbol != "\n" else "\N{SYMBOL FOR NEWLINE}"
        _stand_ins[character, symbol] = chr(code)
    return _stand_ins[character, symbol]
