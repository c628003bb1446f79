"""Handles requests with a real model on the engine's thread, the only one that imports MLX."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from math import exp
from pathlib import Path

import mlx.core as mx

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.config import Fit
from mlx_llava.engine import messages
from mlx_llava.errors import LlavaError
from mlx_llava.images.image import Image
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference.attention import attention_maps
from mlx_llava.inference.cancel import Cancelled, CancelledError
from mlx_llava.inference.chat import Chat, Piece
from mlx_llava.models import backend
from mlx_llava.program.run import explain
from mlx_llava.prompts.templates import Turn, template
from mlx_llava.resolve import open_model

Conversation = messages.Ask | messages.Count | messages.MapAttention


class ModelWorker:
    """One model and one `Chat`, whose turns are set anew by every request.

    The prefix cache makes that cheap: only what differs from the last prompt is computed.
    """

    def __init__(self) -> None:
        self.checkpoint: Checkpoint | None = None
        self.chat: Chat | None = None
        self._settings = messages.AnswerSettings()
        self._images: dict[tuple[str, Decoding], Image] = {}  # by the digest of their file

    def handle(self, request: messages.Request, cancelled: Cancelled) -> Iterator[messages.Event]:
        """The events of one request; an error that can be explained is an event too."""
        try:
            match request:
                case messages.Load():
                    yield from self._load(request)
                case messages.Ask():
                    yield from self._ask(request, cancelled)
                case messages.Count():
                    yield self._count(request)
                case messages.MapAttention():
                    yield from self._map_attention(request, cancelled)
        except (LlavaError, OSError, MemoryError, RuntimeError, ValueError) as error:
            explained = explain(error)
            if explained is None:
                raise
            yield messages.Failed(request, explained.problem, explained.advice)

    def close(self) -> None:
        """Free the model and MLX's streams of this thread."""
        self.checkpoint = self.chat = None
        mx.clear_streams()

    def _load(self, request: messages.Load) -> Iterator[messages.Event]:
        yield messages.Loading(request, request.model or EMBEDDED)
        started = time.perf_counter()
        adapter = Path(request.adapter).expanduser() if request.adapter else None
        before, self.checkpoint, self.chat = (self.checkpoint, self.chat), None, None
        try:
            self.checkpoint = open_model(request.model, request.revision, adapter)
        except Exception:  # of any kind: the former model stays in use
            self.checkpoint, self.chat = before
            raise
        yield messages.Loaded(request, facts(self.checkpoint, request, time.perf_counter() - started))

    def _chat_for(self, settings: messages.AnswerSettings) -> Chat:
        """The chat; a new one if the template or the fit of images has changed."""
        if self.checkpoint is None:
            raise LlavaError("there is no model yet", "Load one with /model.")
        form, last_form = ((s.template, s.fit) for s in (settings, self._settings))
        if self.chat is None or form != last_form:
            self.chat = Chat(with_fit(self.checkpoint, settings.fit), settings.template)
            self._settings = settings
        self.chat.prompter.system = settings.system
        return self.chat

    def _conversation(self, request: Conversation) -> tuple[list[Turn], list[Image]]:
        exchanges, decoding = request.exchanges, request.answer_settings.decoding
        turns = [Turn(e.question, len(e.images), e.answer) for e in exchanges]
        return turns, [self._image(file, decoding) for e in exchanges for file in e.images]

    def _image(self, file: messages.ImageFile, decoding: Decoding) -> Image:
        key = file.digest, decoding
        if key not in self._images:
            self._images[key] = Image.open(file.data, file.name, decoding)
        return self._images[key]

    def _ask(self, request: messages.Ask, cancelled: Cancelled) -> Iterator[messages.Event]:
        settings = request.answer_settings
        chat = self._chat_for(settings)
        turns, images = self._conversation(request)
        earlier = len(images) - turns[-1].num_images
        chat.turns, chat.images = turns[:-1], images[:earlier]
        mx.reset_peak_memory()
        question = request.exchanges[-1].question
        pieces = chat.ask(question, images[earlier:], settings.sampling, settings.num_top, request.prefix, cancelled)
        with closing(pieces):  # on this thread, which owns the model
            for piece in pieces:
                if len(chat.answer.tokens) == len(request.prefix) + 1:
                    yield started(request.number, chat)
                yield self._piece(request.number, piece, chat)
        yield finished(request.number, chat)

    def _piece(self, number: int, piece: Piece, chat: Chat) -> messages.AnswerPiece:
        token, spell = piece.token, chat.prompter.checkpoint.tokenizer.piece
        if token.logprob is None:
            return messages.AnswerPiece(number, piece.text)
        sampled = messages.Choice(spell(token.id), exp(token.logprob), token.id)
        others = tuple(messages.Choice(spell(n), exp(logprob), n) for n, logprob in token.top)
        return messages.AnswerPiece(number, piece.text, sampled, others)

    def _count(self, request: messages.Count) -> messages.Counted:
        prompter = self._chat_for(request.answer_settings).prompter
        turns, images = self._conversation(request)
        draft_images = turns[-1].num_images
        empty = len(prompter.encode([Turn("")], ()).tokens)
        before = prompter.encode([*turns[:-1], Turn("")], images[: len(images) - draft_images])
        whole = prompter.encode(turns, images)
        shown, shown_before = (sum(image.num_rows for image in e.images) for e in (whole, before))
        return messages.Counted(
            request.number,
            system=empty,
            images=shown,
            history=len(before.tokens) - shown_before - empty,
            draft=len(whole.tokens) - shown - (len(before.tokens) - shown_before),
            context=prompter.checkpoint.config.text.max_position_embeddings,
            starts=tuple(image.start for image in whole.images),
        )

    def _map_attention(self, request: messages.MapAttention, cancelled: Cancelled) -> Iterator[messages.Event]:
        chat = self._chat_for(request.answer_settings)
        turns, images = self._conversation(request)
        try:
            maps = attention_maps(chat.prompter, turns, images, chat.answer, cancelled)
        except CancelledError:
            return
        tokens = tuple(map(chat.prompter.checkpoint.tokenizer.piece, maps.ids))
        yield messages.AttentionMapped(request.number, tokens, maps.verbatim, maps.shares, maps.neutral)


def with_fit(checkpoint: Checkpoint, fit: Fit | None) -> Checkpoint:
    """The checkpoint with another fit of images, or its own."""
    image = replace(checkpoint.config.image, fit=fit or checkpoint.config.image.fit)
    return replace(checkpoint, config=replace(checkpoint.config, image=image))


def started(number: int, chat: Chat) -> messages.AnswerStarted:
    """The counts and times known with the first token."""
    answer = chat.answer
    counts = len(answer.prompt_ids), answer.image_tokens, answer.prefilled_tokens
    return messages.AnswerStarted(number, *counts, answer.vision, answer.prefill, answer.first_token)


def finished(number: int, chat: Chat) -> messages.AnswerFinished:
    """The counts and memory known at the end."""
    answer = chat.answer
    memory, peak = mx.get_active_memory(), mx.get_peak_memory()
    return messages.AnswerFinished(number, answer.finish, len(answer.tokens), answer.tokens_per_second, memory, peak)


def facts(checkpoint: Checkpoint, request: messages.Load, seconds: float) -> messages.ModelFacts:
    """The facts about a model that the front end shows."""
    config = checkpoint.config
    return messages.ModelFacts(
        name=request.model or EMBEDDED,
        adapter=request.adapter,
        context=config.text.max_position_embeddings,
        image_tokens=config.rows_per_crop,
        patches=config.vision.image_size // config.vision.patch_size,
        side=config.image.side,
        fit=config.image.fit,
        mean=config.image.mean,
        template=config.template,
        system=template(config.template).system,
        bits=min((quantization.bits for quantization in checkpoint.quantized.values()), default=None),
        memory=mx.get_active_memory(),
        device="CPU" if backend.on_cpu() else str(mx.device_info().get("device_name", "GPU")),
        seconds=seconds,
    )
