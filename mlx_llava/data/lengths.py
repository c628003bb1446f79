"""Upper bounds on the number of tokens of a prompt, from its bytes or its words; most need no tokenizer run.

If no token of the vocabulary crosses a word boundary, as in LLaMA's, no merge does. So a text's tokens are those of
its words, each with the spaces before it, and words repeat. A record of 900 bytes takes 4 µs by its bytes, 22 µs by its
words and 450 µs by the tokenizer.
"""

import re
from collections.abc import Iterable, Iterator

from mlx_llava.prompts.templates import ImageMark, Piece, Special, Text
from mlx_llava.prompts.tokens import Tokenizer

WORD = re.compile(r" +[^ ]*|[^ ]+")
MAX_WORDS = 1 << 17  # in the cache, some megabytes
BEFORE = "x"  # a word before the counted one, as tokenizers may add a space at the start of a text


class Lengths:
    """Upper bounds on lengths, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, rows_per_image: int) -> None:
        self.special_ids = tokenizer.special_ids
        self.rows_per_image = rows_per_image
        self.bounded = tokenizer.at_most_one_token_per_byte and tokenizer.reads_any_text
        self.words_are_separate = not any(b" " in spelling.lstrip(b" ") for spelling in tokenizer.spellings.values())
        self._words = _WordCounts(tokenizer)

    def fits(self, pieces: Iterable[Piece], max_tokens: int) -> bool:
        """Whether a prompt is sure to have at most `max_tokens`, image tokens and the start token included."""
        pieces = list(pieces)
        if not self.bounded:
            return False
        if self.by_bytes(pieces) <= max_tokens:
            return True
        return self.words_are_separate and self.by_words(pieces) <= max_tokens

    def by_bytes(self, pieces: Iterable[Piece]) -> int:
        """A token per byte, and one more for each piece: it is special, or a space may be put before it."""
        rows = self.rows_per_image
        return 1 + sum([rows if isinstance(piece, ImageMark) else 1 + _num_bytes(piece.text) for piece in pieces])

    def by_words(self, pieces: Iterable[Piece]) -> int:
        """The tokens of all words but the first of a text, which may get another space: it counts a token per byte."""
        total = 1
        for piece in self._joined(pieces):
            if isinstance(piece, str):
                first, *others = WORD.findall(piece) or [""]
                total += 1 + _num_bytes(first) + sum(map(self._words.__getitem__, others))
            else:
                total += piece
        return total

    def _joined(self, pieces: Iterable[Piece]) -> Iterator[str | int]:
        """Texts without a special token or an image between them as one, and the number of tokens between them."""
        texts = list[str]()
        for piece in pieces:
            if isinstance(piece, Text) or (isinstance(piece, Special) and piece.text not in self.special_ids):
                texts.append(piece.text)
                continue
            yield "".join(texts)
            texts.clear()
            yield self.rows_per_image if isinstance(piece, ImageMark) else 1
        yield "".join(texts)


class _WordCounts(dict[str, int]):
    """The number of tokens of a word inside a text, counted once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._alone = self._count(BEFORE)

    def __missing__(self, word: str) -> int:
        if len(self) == MAX_WORDS:
            self.clear()
        count = self[word] = self._count(BEFORE + word) - self._alone
        return count

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode([Text(text)], ()).tokens)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
