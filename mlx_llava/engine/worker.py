"""Fulfils requests with a real model; lives on the engine's thread, where MLX is imported and nowhere else."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from math import exp
from pathlib import Path

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AnswerSettings,
    AnswerStarted,
    Ask,
    AttentionMapped,
    Choice,
    Count,
    Counted,
    Event,
    Exchange,
    Failed,
    Fit,
    ImageFile,
    Load,
    Loaded,
    Loading,
    MapAttention,
    ModelFacts,
    Request,
)
from mlx_llava.errors import LlavaError
from mlx_llava.inference.attention import attention_maps
from mlx_llava.inference.chat import Chat, Image, Piece
from mlx_llava.inference.generate import CancelledError, Sampling
from mlx_llava.inputs import TEXT
from mlx_llava.models import backend
from mlx_llava.program.run import explain
from mlx_llava.prompts.templates import Turn
from mlx_llava.resolve import open_model

EMBEDDED = "embedded"


class ModelWorker:
    """One model, and one `Chat` that is set to whatever conversation is asked about.

    The kept cache makes that cheap: only what differs from the last prompt is computed.
    """

    def __init__(self) -> None:
        self.chat: Chat | None = None
        self._manner = AnswerSettings()
        self._fit: Fit | None = None
        self._images: dict[str, Image] = {}  # by the digest of their file

    def handle(self, request: Request, stopped: Callable[[], bool]) -> Iterator[Event]:
        """The events of one request; what is wrong with it is an event too."""
        try:
            match request:
                case Load():
                    yield from self._load(request)
                case Ask():
                    yield from self._ask(request, stopped)
                case Count():
                    yield self._count(request)
                case MapAttention():
                    yield from self._look(request, stopped)
        except (LlavaError, OSError, MemoryError, RuntimeError, ValueError) as error:
            known = explain(error)
            if known is None:
                raise
            yield Failed(request, known.problem, known.advice)

    def close(self) -> None:
        """Give back the model and MLX's streams of this thread."""
        self.chat = None
        mx.clear_streams()

    def _load(self, request: Load) -> Iterator[Event]:
        yield Loading(request, request.model or EMBEDDED)
        started = time.perf_counter()
        adapter = Path(request.adapter).expanduser() if request.adapter else None
        before, self.chat = self.chat, None
        try:
            checkpoint = open_model(request.model, request.revision, adapter)
        except Exception:
            self.chat = before
            raise
        self._begin(checkpoint, self._manner)
        yield Loaded(request, facts(checkpoint, request, time.perf_counter() - started))

    def _begin(self, checkpoint: Checkpoint, settings: AnswerSettings) -> Chat:
        self.chat = Chat(checkpoint, settings.template, settings.system)
        self._manner, self._images = settings, {}
        return self.chat

    def _chat(self, settings: AnswerSettings) -> Chat:
        """The chat, made anew where its template or the form of its pictures is another."""
        if self.chat is None:
            raise LlavaError("there is no model yet", "Load one with /model.")
        if (settings.template, settings.fit) != (self._manner.template, self._manner.fit):
            return self._begin(self.chat.checkpoint, settings)
        self.chat.system = settings.system
        return self.chat

    def _image(self, file: ImageFile, chat: Chat, fit: Fit | None) -> Image:
        if file.digest not in self._images:
            config = chat.checkpoint.config.image
            config = replace(config, fit=fit or config.fit)
            self._images[file.digest] = Image.open(file.data, file.name, config, "display")
        return self._images[file.digest]

    def _conversation(
        self, exchanges: Sequence[Exchange], chat: Chat, fit: Fit | None
    ) -> tuple[list[Turn], list[Image]]:
        turns = [Turn(e.question, len(e.images), e.answer) for e in exchanges]
        return turns, [self._image(file, chat, fit) for e in exchanges for file in e.images]

    def _ask(self, request: Ask, stopped: Callable[[], bool]) -> Iterator[Event]:
        settings = request.answer_settings
        chat = self._chat(settings)
        turns, images = self._conversation(request.exchanges, chat, settings.fit)
        new = turns[-1].num_images
        known, asked = images[: len(images) - new], images[len(images) - new :]
        chat.turns, chat.images = turns[:-1], known
        mx.reset_peak_memory()
        question, chosen = request.exchanges[-1].question, sampling(settings)
        pieces = chat.ask(question, asked, chosen, settings.num_top, request.prefix, stopped)
        with closing(pieces):  # here: mlx-lm's stream cannot be left on another thread
            for piece in pieces:
                if len(chat.answer.tokens) == len(request.prefix) + 1:
                    yield began(request.number, chat)
                yield self._said(request.number, piece, chat)
        yield finished(request.number, chat)

    def _said(self, number: int, piece: Piece, chat: Chat) -> AnswerPiece:
        token, spell = piece.token, chat.checkpoint.tokenizer.piece
        if token.logprob is None:
            return AnswerPiece(number, piece.text)
        others = tuple(Choice(spell(n), exp(logprob), n) for n, logprob in token.top)
        return AnswerPiece(number, piece.text, Choice(spell(token.id), exp(token.logprob), token.id), others)

    def _count(self, request: Count) -> Counted:
        chat = self._chat(request.answer_settings)
        turns, images = self._conversation(request.exchanges, chat, request.answer_settings.fit)
        draft_images = turns[-1].num_images
        empty = len(chat.encode([Turn("")], ()).tokens)
        before = chat.encode([*turns[:-1], Turn("")], images[: len(images) - draft_images])
        whole = chat.encode(turns, images)
        shown, shown_before = (int(np.count_nonzero(e.slots != TEXT)) for e in (whole, before))
        return Counted(
            request.number,
            system=empty,
            images=shown,
            history=len(before.tokens) - shown_before - empty,
            draft=len(whole.tokens) - shown - (len(before.tokens) - shown_before),
            context=chat.checkpoint.config.text.max_position_embeddings,
            starts=tuple(np.flatnonzero(beginnings(whole.slots, chat.checkpoint.config.rows_per_crop)).tolist()),
        )

    def _look(self, request: MapAttention, stopped: Callable[[], bool]) -> Iterator[AttentionMapped]:
        chat = self._chat(request.answer_settings)
        turns, images = self._conversation(request.exchanges, chat, request.answer_settings.fit)
        try:
            maps = attention_maps(chat, turns, images, stopped)
        except CancelledError:
            return
        tokens = tuple(map(chat.checkpoint.tokenizer.piece, maps.ids))
        yield AttentionMapped(request.number, tokens, maps.as_said, maps.shares, maps.neutral)


def beginnings(slots: NDArray[np.int32], rows_per_crop: int) -> NDArray[np.bool_]:
    """Where the first row of a picture stands."""
    return (slots != TEXT) & (slots % rows_per_crop == 0)


def sampling(settings: AnswerSettings) -> Sampling:
    """How tokens are chosen."""
    return Sampling(settings.max_tokens, settings.temperature, settings.top_p, seed=settings.seed)


def began(number: int, chat: Chat) -> AnswerStarted:
    """What is known with the first token."""
    answer = chat.answer
    return AnswerStarted(
        number,
        len(answer.prompt_ids),
        answer.image_tokens,
        answer.prefilled_tokens,
        answer.vision,
        answer.prefill,
        answer.first_token,
    )


def finished(number: int, chat: Chat) -> AnswerFinished:
    """What is known at the end."""
    answer = chat.answer
    memory, peak = mx.get_active_memory(), mx.get_peak_memory()
    return AnswerFinished(number, answer.finish, len(answer.tokens), answer.tokens_per_second, memory, peak)


def facts(checkpoint: Checkpoint, request: Load, seconds: float) -> ModelFacts:
    """What the front needs to know of a model."""
    config = checkpoint.config
    chat = Chat(checkpoint)
    return ModelFacts(
        name=request.model or EMBEDDED,
        adapter=request.adapter,
        context=config.text.max_position_embeddings,
        image_tokens=config.rows_per_crop,
        patches=config.vision.image_size // config.vision.patch_size,
        side=config.image.side,
        fit=config.image.fit,
        mean=config.image.mean,
        template=config.template,
        system=chat.template.system,
        bits=min((packing.bits for packing in checkpoint.quantized.values()), default=None),
        memory=mx.get_active_memory(),
        device="CPU" if backend.on_cpu() else str(mx.device_info().get("device_name", "GPU")),
        seconds=seconds,
    )
