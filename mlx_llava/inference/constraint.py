"""Which token may come next in an answer: the protocol, and the constraint to a list of choices.

A constrained answer may open with one space that is not part of its text, because most models begin an answer with
one. Knows nothing of logits: masks are arrays of booleans.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mlx_llava.errors import LimitError, LlavaError, PromptError, UsageError
from mlx_llava.prompts.tokens import Tokenizer


@dataclass(frozen=True)
class Vocabulary:
    """The tokens that a model chooses from, and those among them that end an answer."""

    tokenizer: Tokenizer
    size: int
    """Number of logits; the last ones may belong to no token."""
    stop_ids: frozenset[int]

    @cached_property
    def spellings(self) -> Mapping[int, bytes]:
        """The bytes of every token that adds text to an answer."""
        spellings = self.tokenizer.spellings.items()
        return {token: spelling for token, spelling in spellings if spelling and token not in self.stop_ids}

    def mask(self, tokens: Sequence[int]) -> NDArray[np.bool_]:
        """An array `[size]` that is true at these tokens."""
        mask = np.zeros(self.size, bool)
        mask[tokens] = True
        return mask


class Matcher(Protocol):
    """Follows one answer, token by token."""

    @property
    def finished(self) -> bool:
        """Whether the answer is complete and only a stop token may follow."""
        ...

    def allowed(self) -> NDArray[np.bool_]:
        """The tokens that may come next `[size]`; at least one."""
        ...

    def advance(self, token: int) -> None:
        """Go on to the next token of the answer; LlavaError unless it is allowed."""
        ...


class Constraint(Protocol):
    """What an answer may be; one object serves many answers."""

    def start(self, vocabulary: Vocabulary) -> Matcher:
        """The matcher of a new answer."""
        ...


class Choices:
    """The answer is exactly one of some texts."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = tuple(dict.fromkeys(texts))
        if not self.texts or "" in self.texts:
            raise UsageError("a choice is empty", "Separate the choices by commas: yes,no,unsure")
        if any("\ud800" <= character <= "\udfff" for text in self.texts for character in text):
            raise UsageError("a choice is not valid Unicode", "Give text in UTF-8.")

    def start(self, vocabulary: Vocabulary) -> Matcher:
        """The matcher of a new answer; PromptError if the vocabulary has no tokens for a choice."""
        return ChoiceMatcher(vocabulary, _paths(self.texts, vocabulary))


Steps = Sequence[Mapping[int, int]]
"""For every position of a text, the tokens that may follow there, each with the position behind it."""


class ChoiceMatcher:
    """Allows any tokens that spell one of the choices."""

    def __init__(self, vocabulary: Vocabulary, paths: Sequence[Steps]) -> None:
        self._vocabulary = vocabulary
        self._open = [(steps, 0) for steps in paths]  # choices that begin like the answer, and its length

    @property
    def finished(self) -> bool:
        return all(position == len(steps) - 1 for steps, position in self._open)

    def allowed(self) -> NDArray[np.bool_]:
        tokens = [token for steps, position in self._open for token in steps[position]]
        return self._vocabulary.mask([*tokens, *(self._vocabulary.stop_ids if self._complete() else ())])

    def advance(self, token: int) -> None:
        if token in self._vocabulary.stop_ids:
            still_open = self._complete()
        else:
            still_open = [(steps, steps[at][token]) for steps, at in self._open if token in steps[at]]
        if not still_open:
            raise wrong_token()
        self._open = still_open

    def _complete(self) -> list[tuple[Steps, int]]:
        return [(steps, position) for steps, position in self._open if position == len(steps) - 1]


@lru_cache(maxsize=16)
def _paths(texts: Sequence[str], vocabulary: Vocabulary) -> list[Steps]:
    tokens: dict[bytes, list[int]] = {}
    for token, spelling in vocabulary.spellings.items():
        tokens.setdefault(spelling, []).append(token)
    paths = []
    for text in texts:
        spellings = [f" {text}"] if text.startswith(" ") else [f" {text}", text]
        usable = [steps for spelling in spellings if (steps := _steps(spelling.encode(), tokens))[0]]
        if not usable:
            raise PromptError(f"the model has no tokens for the choice {text!r}", "Use other words for it.")
        paths += usable
    return paths


def _steps(text: bytes, tokens: Mapping[bytes, Sequence[int]]) -> Steps:
    """Only steps from which the rest of the text can be spelled."""
    longest = max(map(len, tokens), default=0)
    steps: list[dict[int, int]] = [{} for _ in range(len(text) + 1)]
    for start in reversed(range(len(text))):
        for end in range(start + 1, min(start + longest, len(text)) + 1):
            if end == len(text) or steps[end]:
                steps[start] |= dict.fromkeys(tokens.get(text[start:end], ()), end)
    return steps


def start_after(constraint: Constraint, vocabulary: Vocabulary, prefix: Sequence[int]) -> Matcher:
    """The matcher of an answer that is forced to begin with some tokens; PromptError if it may not begin so."""
    matcher = constraint.start(vocabulary)
    for token in prefix:
        if not matcher.allowed()[token]:
            raise PromptError("the constraint does not allow the forced prefix", "Leave one of the two out.")
        matcher.advance(token)
    return matcher


def incomplete(num_tokens: int) -> LimitError:
    """A limit ended a constrained answer."""
    problem = f"the answer is incomplete: it reached its limit of {num_tokens} tokens"
    return LimitError(problem, "Raise --max-tokens, or ask for a shorter answer.")


def wrong_token() -> LlavaError:
    """The model chose a token that its mask forbids: its logits are not numbers."""
    return LlavaError("the model computes no valid probabilities", "Convert it again, with --dtype float32.")
