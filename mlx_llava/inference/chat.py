"""A conversation about pictures: turns in, pieces of text out.

The one object that `ask`, the terminal chat and the server talk to. Keeps the features of every picture
and the KV cache, so that a further question computes its own tokens only.
"""

import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import mlx.core as mx
import numpy as np

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.config import ImageConfig
from mlx_llava.errors import LimitError
from mlx_llava.images.pixels import Decoding, crop, identity, open_image
from mlx_llava.inference import generate
from mlx_llava.inference.generate import CacheOptions, CancelledError, KeptCache, Sampling, Token, compute_unless
from mlx_llava.inputs import TEXT, Example, no_crops
from mlx_llava.prompts.templates import Turn
from mlx_llava.prompts.templates import template as prompt_template
from mlx_llava.prompts.tokens import Detokenizer

Finish = Literal["stop", "length", "cancelled"]


@dataclass(frozen=True)
class Image:
    """A picture as the model sees it."""

    name: str
    identity: str
    """Equal for equal pixels."""
    size: tuple[int, int]
    """Width and height before it was fitted."""
    crop: np.ndarray  # [side, side, 3] float32

    @classmethod
    def open(cls, source: Path | bytes, name: str, config: ImageConfig, decoding: Decoding) -> "Image":
        """Read a picture file; ImageError where that cannot be done."""
        pil_image = open_image(source, decoding)
        return cls(name, identity(pil_image), pil_image.size, crop(pil_image, config, name))


@dataclass(frozen=True)
class Piece:
    """A piece of an answer: a token, and the text that is certain with it."""

    text: str
    token: Token


@dataclass
class Answer:
    """An answer and what it took; seconds, and positions by what they show."""

    text: str = ""
    finish: Finish = "cancelled"
    tokens: list[Token] = field(default_factory=list)
    prompt_ids: list[int] = field(default_factory=list)
    begun: int = 0
    """Tokens at its beginning that were given."""
    image_tokens: int = 0
    prefilled_tokens: int = 0
    vision: float = 0.0
    prefill: float = 0.0
    first_token: float = 0.0
    decode: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Decoding speed, the first token left out: it belongs to the prefill."""
        decoded = len(self.tokens) - self.begun - 1
        return decoded / self.decode if self.decode and decoded > 0 else 0.0


class StopText:
    """Cuts text at the first stop string, holding back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = stops
        self.held = ""
        self.reached = False

    def add(self, text: str) -> str:
        """The text that is certain not to belong to a stop string."""
        self.held += text
        ends = [at for stop in self.stops if (at := self.held.find(stop)) >= 0]
        if ends:
            self.reached = True
            safe, self.held = self.held[: min(ends)], ""
            return safe
        longest = max((n for stop in self.stops for n in range(len(stop)) if self.held.endswith(stop[:n])), default=0)
        cut = len(self.held) - longest
        safe, self.held = self.held[:cut], self.held[cut:]
        return safe


class Chat:
    """One conversation with one model; use it on the thread that loaded the model."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        template: str | None = None,
        system: str | None = None,
        cache: CacheOptions = CacheOptions(),
    ) -> None:
        self.checkpoint = checkpoint
        self.template = prompt_template(template or checkpoint.config.template)
        self.system = system
        specials = checkpoint.tokenizer.special_ids
        self.stop_ids = checkpoint.stop_ids | {specials[s] for s in self.template.stop if s in specials}
        self.turns: list[Turn] = []
        self.images: list[Image] = []
        self.answer = Answer()
        self._features: dict[str, mx.array] = {}  # by the identity of the picture
        self._cache = KeptCache(checkpoint.model.language_model, cache)

    def ask(
        self,
        question: str,
        images: Sequence[Image] = (),
        sampling: Sampling = Sampling(),
        num_top: int = 0,
        begin: Sequence[int] = (),
        stopped: Callable[[], bool] = lambda: False,
    ) -> Generator[Piece, None, None]:
        """Pieces of the answer as they come; `self.answer` tells the rest.

        The turn joins the conversation when the iterator ends or is closed, with the answer as far as it got, unless
        nothing was said.
        Raises LimitError, before anything is computed, when the prompt does not fit into the context.

        Args:
            begin: token ids that the answer begins with, whatever the model would have said; `sampling.max_tokens`
                counts those after them.
            stopped: ends the answer soon after it turned true, while it is read as well.
        """
        turn = Turn(question, len(images))
        shown = [*self.images, *images]
        example = self.encode([*self.turns, turn], shown)
        fed = followed(example, begin)
        sampling = replace(sampling, max_tokens=self.room(fed, sampling.max_tokens))
        self.answer = answer = Answer(prompt_ids=example.tokens.tolist(), begun=len(begin))
        answer.image_tokens = int(np.count_nonzero(example.slots != TEXT))
        keys = self._keys(fed, shown)
        start = self._cache.resume(keys)
        answer.prefilled_tokens = len(keys) - start
        started = time.perf_counter()
        try:
            with suppress(CancelledError):
                embeddings = self.embed(fed, shown, start, stopped)
                answer.vision = time.perf_counter() - started
                yield from self._pieces(fed.tokens, embeddings, sampling, num_top, started, stopped)
        finally:
            self._cache.settle([*keys, *(token.id for token in answer.tokens[len(begin) :])])
            if answer.tokens:
                self.turns.append(replace(turn, answer=answer.text))
                self.images = shown

    def encode(self, turns: Sequence[Turn], images: Sequence[Image]) -> Example:
        """The prompt that asks for the answer of the last turn."""
        pieces = self.template.answering(turns, self.system)
        crops = np.stack([image.crop for image in images]) if images else no_crops()
        return self.checkpoint.tokenizer.encode(pieces, crops, self.checkpoint.config.rows_per_crop)

    def room(self, example: Example, max_tokens: int) -> int:
        """How many of `max_tokens` fit after the prompt; LimitError where none does."""
        limit = self.checkpoint.config.text.max_position_embeddings
        room = limit - len(example.tokens)
        if room < 1:
            raise LimitError(
                f"the prompt is {len(example.tokens)} tokens, the limit {limit}", "Shorten it, or leave a picture out."
            )
        return min(room, max_tokens)

    def _keys(self, example: Example, images: Sequence[Image]) -> list[Hashable]:
        """What each position shows: a token, or a row of a picture."""
        rows = self.checkpoint.config.rows_per_crop
        return [
            token if slot == TEXT else (images[slot // rows].identity, slot % rows)
            for token, slot in zip(example.tokens.tolist(), example.slots.tolist(), strict=True)
        ]

    def embed(
        self,
        example: Example,
        images: Sequence[Image],
        start: int = 0,
        stopped: Callable[[], bool] = lambda: False,
    ) -> mx.array:
        """Embeddings `[T - start, D]`; the tower runs for pictures that are needed and not yet known.

        CancelledError where `stopped` turned true; pictures that were seen to the end stay known.
        """
        model, slots = self.checkpoint.model, example.slots[start:]
        features = None
        if (slots != TEXT).any():
            rows = self.checkpoint.config.rows_per_crop
            needed = range(int(slots[slots != TEXT].min()) // rows, len(images))
            features = mx.concatenate([self.features(images[n], stopped) for n in needed])
            slots = np.where(slots == TEXT, TEXT, slots - needed.start * rows)
        embeddings = model.embed(mx.array(example.tokens[start:])[None], mx.array(slots)[None], features)[0]
        mx.eval(embeddings)
        return embeddings

    def features(self, image: Image, stopped: Callable[[], bool] = lambda: False) -> mx.array:
        """Image features `[rows, D]` of a picture, computed once."""
        if image.identity not in self._features:
            model = self.checkpoint.model
            features = model.features(model.on_device(image.crop[None]), compute_unless(stopped))
            mx.eval(features)  # before it is noted: an error would leave features that cannot be computed
            self._features[image.identity] = features
        return self._features[image.identity]

    def _pieces(
        self,
        tokens: np.ndarray,
        embeddings: mx.array,
        sampling: Sampling,
        num_top: int,
        started: float,
        stopped: Callable[[], bool],
    ) -> Iterator[Piece]:
        answer, text, stop_text = self.answer, Detokenizer(self.checkpoint.tokenizer), StopText(self.template.stop)

        def said(token: Token, *, full: bool = False) -> Piece:
            """The piece of one more token, which ends the answer where it stops it or no other fits."""
            answer.tokens.append(token)
            stops = token.id in self.stop_ids
            new = ("" if stops else text.add(token.id)) + (text.finish() if stops or full else "")
            piece = stop_text.add(new)
            if stops or full or stop_text.reached:
                piece += stop_text.held
                answer.finish = "stop" if stops or stop_text.reached else "length"
            answer.text += piece
            return Piece(piece, token)

        begun = answer.begun
        for given in tokens[len(tokens) - begun :].tolist():
            yield said(Token(given))
            if answer.finish == "stop" or stopped():
                return
        before = time.perf_counter()
        model = self.checkpoint.model.language_model
        steps = generate.stream(model, mx.array(tokens), embeddings, self._cache, sampling, num_top, stopped)
        with closing(steps):
            for token in steps:
                now = time.perf_counter()
                if len(answer.tokens) == begun:
                    answer.prefill, answer.first_token = now - before, now - started
                    before = now
                answer.decode = now - before
                yield said(token, full=len(answer.tokens) + 1 == begun + sampling.max_tokens)
                if answer.finish != "cancelled" or stopped():
                    return


def followed(example: Example, ids: Sequence[int]) -> Example:
    """A prompt with these tokens behind it."""
    return replace(
        example,
        tokens=np.concatenate([example.tokens, np.array(ids, example.tokens.dtype)]),
        slots=np.concatenate([example.slots, np.full(len(ids), TEXT, example.slots.dtype)]),
        label_mask=np.concatenate([example.label_mask, np.zeros(len(ids), bool)]),
    )
