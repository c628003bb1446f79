"""How many tokens a prompt has at most, told from its words: most need no tokenizer for that.

A vocabulary without pieces that reach over a word's end, as LLaMA's, has no merge that does. So the tokens of a text
are those of its words, each with the spaces in front of it, and the same words come again and again.
"""

import re
from collections.abc import Iterable

import numpy as np

from mlx_llava.prompts.templates import ImageMark, Piece, Text
from mlx_llava.prompts.tokens import Tokenizer

WORD = re.compile(r" +[^ ]*|[^ ]+")
MOST_WORDS = 1 << 17  # that are remembered, some megabytes
BEFORE = "x"  # a word in front, for a text may begin with a space of the tokenizer's own
_NO_CROPS = np.zeros((0, 0, 0, 3), np.float32)


class Lengths:
    """Upper bounds on lengths, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, rows_per_crop: int) -> None:
        self.tokenizer = tokenizer
        self.rows_per_crop = rows_per_crop
        self.words_are_apart = not any(b" " in spelling.lstrip(b" ") for spelling in tokenizer.spellings.values())
        self._alone = self._count(BEFORE)
        self._counts = dict[str, int]()

    def at_most(self, pieces: Iterable[Piece]) -> int:
        """Tokens of a prompt, or a few more; one for its start."""
        return 1 + sum(
            self.rows_per_crop if isinstance(piece, ImageMark) else 1 + self._text(piece.text) for piece in pieces
        )

    def _text(self, text: str) -> int:
        """A word at either end may go on in the next piece; a token writes at least one byte of it."""
        words = WORD.findall(text) if self.words_are_apart else []
        if len(words) < 3:
            return _num_bytes(text)
        inner = sum(map(self._word, words[1:-1]))
        return _num_bytes(words[0]) + inner + _num_bytes(words[-1])

    def _word(self, word: str) -> int:
        count = self._counts.get(word)
        if count is None:
            if len(self._counts) == MOST_WORDS:
                self._counts.clear()
            count = self._counts[word] = self._count(BEFORE + word) - self._alone
        return count

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode([Text(text)], _NO_CROPS, self.rows_per_crop).tokens)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
