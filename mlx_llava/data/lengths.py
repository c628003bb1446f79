"""Upper bounds on the number of tokens of a prompt, from its bytes or its words; most need no tokenizer run.

If no token of the vocabulary crosses a word boundary, as in LLaMA's, no merge does. So a text's tokens are those of
its words, each with the spaces before it, and words repeat. A record of 900 bytes takes 4 µs by its bytes, 16 µs by its
words and 450 µs by the tokenizer.
"""

import re
from collections.abc import Iterable

from mlx_llava.prompts.byte_bound import SPACE
from mlx_llava.prompts.templates import ImageMark, Piece, Special, Text
from mlx_llava.prompts.tokens import Tokenizer

WORD = re.compile(r" +[^ ]*|[^ ]+")
MAX_WORDS = 1 << 17  # in the cache, some megabytes
BEFORE = "x"  # a word before the counted one, as tokenizers may add a space at the start of a text
Runs = list[str | int]  # texts, and numbers of tokens


class Lengths:
    """Upper bounds on lengths, for one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, rows_per_image: int) -> None:
        self.special_ids = tokenizer.special_ids
        self.rows_per_image = rows_per_image
        self.bounded = tokenizer.at_most_one_token_per_byte and tokenizer.reads_any_text
        self.words_are_separate = not any(b" " in spelling.lstrip(b" ") for spelling in tokenizer.spellings.values())
        self._counts = _WordCounts(tokenizer)

    def fits(self, pieces: Iterable[Piece], max_tokens: int) -> bool:
        """Whether a prompt is sure to have at most `max_tokens`, image tokens and the start token included."""
        if not self.bounded:
            return False
        runs = self.runs(pieces)
        if self.by_bytes(runs) <= max_tokens:
            return True
        return self.words_are_separate and self.by_words(runs) <= max_tokens

    def by_bytes(self, runs: Runs) -> int:
        """A token per byte, and one for the space that may be put before a text."""
        return 1 + sum([run if isinstance(run, int) else 1 + _num_bytes(run) for run in runs])

    def by_words(self, runs: Runs) -> int:
        """The tokens of all words but the first of a text, which may get another space: it counts a token per byte."""
        total = 1
        for run in runs:
            if isinstance(run, int):
                total += run
                continue
            first, *others = _words(run)
            total += 1 + _num_bytes(first) + sum(map(self._counts.__getitem__, others))
        return total

    def runs(self, pieces: Iterable[Piece]) -> Runs:
        """A prompt as it is encoded: texts without anything between them joined, and the number of tokens elsewhere."""
        runs, texts = Runs(), list[str]()
        for piece in pieces:
            if isinstance(piece, Text) or (isinstance(piece, Special) and piece.text not in self.special_ids):
                texts.append(piece.text)
                continue
            runs += ["".join(texts), self.rows_per_image if isinstance(piece, ImageMark) else 1]
            texts.clear()
        return [*runs, "".join(texts)]


def _words(text: str) -> list[str]:
    """The words of a text, each but the first without the space, or one of the spaces, before it.

    A written `▁` is a space to the tokenizer and may join a space after it, so such a text is one word.
    """
    if SPACE in text:
        return [text]
    if not text.startswith(" ") and "  " not in text:
        return text.split(" ")
    first, *others = WORD.findall(text)
    return [first, *(word[1:] for word in others)]


class _WordCounts(dict[str, int]):
    """The number of tokens of a word and the space before it, inside a text, counted once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self._alone = self._count(BEFORE)

    def __missing__(self, word: str) -> int:
        if len(self) == MAX_WORDS:
            self.clear()
        count = self[word] = self._count(f"{BEFORE} {word}") - self._alone
        return count

    def _count(self, text: str) -> int:
        return len(self.tokenizer.encode([Text(text)], ()).tokens)


def _num_bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="replace"))
