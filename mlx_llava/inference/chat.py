"""A conversation about images: questions in, pieces of answers out.

`ask`, the terminal chat and the server all use this object. It caches the features of every image and the keys and
values of the last prompt, so that a further question computes only its own tokens.
"""

import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain

import mlx.core as mx

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.images.image import Image, Source
from mlx_llava.inference import generate
from mlx_llava.inference.answer_text import AnswerText
from mlx_llava.inference.cache import PrefixCache, cache_keys
from mlx_llava.inference.cancel import Cancelled, CancelledError, never
from mlx_llava.inference.constraint import Constraint, start_after
from mlx_llava.inference.prompter import Prompter, with_prefix
from mlx_llava.inference.sampling import CacheOptions, Finish, Sampling, Token
from mlx_llava.prompts.templates import Turn


@dataclass(frozen=True)
class Piece:
    """One token of an answer, and the text that is certain with it."""

    text: str
    token: Token


@dataclass
class Answer:
    """An answer, its token counts, and its times in seconds."""

    text: str = ""
    finish: Finish = "cancelled"
    tokens: list[Token] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    image_keys: list[str] = field(default_factory=list)
    """Identities of the images in the prompt."""
    prefix_tokens: int = 0
    """Length of the forced prefix."""
    image_tokens: int = 0
    prefilled_tokens: int = 0
    vision: float = 0.0
    prefill: float = 0.0
    """Up to the first token, without the vision tower."""
    first_token: float = 0.0
    """Up to the first token, all included."""
    decode: float = 0.0
    """From the first token to the last."""

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed without the first token, which the prefill computes."""
        decoded = len(self.tokens) - self.prefix_tokens - 1
        return decoded / self.decode if self.decode and decoded > 0 else 0.0


class Chat:
    """One conversation with one model; use it on the thread that loaded the model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        template: str | None = None,
        system: str | None = None,
        cache: CacheOptions = CacheOptions(),
    ) -> None:
        self.prompter = Prompter(checkpoint, template, system)
        self.turns: list[Turn] = []
        self.images: list[Image] = []
        self.answer = Answer()
        self._cache = PrefixCache(checkpoint.model.language_model, cache)

    def ask(
        self,
        question: str,
        images: Sequence[Source] = (),
        sampling: Sampling = Sampling(),
        num_top: int = 0,
        prefix: Sequence[int] = (),
        cancelled: Cancelled = never,
        constraint: Constraint | None = None,
    ) -> Generator[Piece, None, None]:
        """Yield the answer piece by piece; `self.answer` holds the whole, with counts and times.

        When the iterator ends or is closed, the turn joins the conversation with the answer so far, if it has any
        token. Raises LimitError, before anything is computed, if the prompt does not fit into the context.

        Args:
            prefix: token ids that the answer is forced to begin with; `sampling.max_tokens` counts those after them.
            cancelled: once it returns true, the answer ends at the next token or, during prefill, the next block.
            constraint: what the answer may be; if `self.answer.finish` is not "stop", it is incomplete.
        """
        matcher = None if constraint is None else start_after(constraint, self.prompter.vocabulary, prefix)
        turn, all_images = Turn(question, len(images)), [*self.images, *map(Image.open, images)]
        example = self.prompter.encode([*self.turns, turn], all_images)
        prompt = with_prefix(example, prefix)
        sampling = replace(sampling, max_tokens=self.prompter.room(prompt, sampling.max_tokens))
        keys = cache_keys(prompt)
        start = self._cache.reuse_prefix(keys)
        self.answer = answer = Answer(
            prompt_ids=example.tokens.tolist(),
            image_keys=[image.key for image in example.images],
            prefix_tokens=len(prefix),
            image_tokens=sum(image.num_rows for image in example.images),
            prefilled_tokens=len(keys) - start,
        )
        ids = mx.array(prompt.tokens)
        started = time.perf_counter()
        try:
            with suppress(CancelledError):
                embeddings = self.prompter.embed(prompt, all_images, start, cancelled)
                answer.vision = time.perf_counter() - started
                steps = generate.stream(ids, embeddings, self._cache, sampling, num_top, cancelled, matcher)
                tokens = chain(map(Token, prefix), timed(steps, answer, started))
                text = AnswerText(self.prompter, len(prefix) + sampling.max_tokens, matcher)
                yield from self._pieces(tokens, text, cancelled)
        finally:
            self._cache.record([*keys, *(token.id for token in answer.tokens[len(prefix) :])])
            if answer.tokens:
                self.turns.append(replace(turn, answer=answer.text))
                self.images = all_images

    def _pieces(self, tokens: Iterable[Token], text: AnswerText, cancelled: Cancelled) -> Iterator[Piece]:
        answer = self.answer
        for token in tokens:
            answer.tokens.append(token)
            piece = text.add(token.id)
            answer.text, answer.finish = answer.text + piece, text.finish
            yield Piece(piece, token)
            if answer.finish != "cancelled" or cancelled():
                return


def timed(tokens: Iterable[Token], answer: Answer, started: float) -> Iterator[Token]:
    """Pass tokens on and record their times in the answer; `started` is when the vision tower started."""
    before, is_first = time.perf_counter(), True
    for token in tokens:
        now = time.perf_counter()
        if is_first:
            answer.prefill, answer.first_token = now - before, now - started
            before, is_first = now, False
        answer.decode = now - before
        yield token
