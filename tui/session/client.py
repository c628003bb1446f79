"""The session's side of the engine: sends requests and keeps the state that their events report."""

from collections.abc import Callable

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AnswerSettings,
    AnswerStarted,
    Ask,
    Count,
    Counted,
    Crashed,
    Event,
    Exchange,
    Failed,
    Load,
    Loaded,
    Loading,
    MapAttention,
)
from mlx_llava.engine.thread import Engine
from mlx_llava.tui.session.answering import PendingAnswer
from mlx_llava.tui.session.attention import AttentionEvent, AttentionQuery
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.loading import Loader


class EngineClient:
    """Talks to an engine, and to a new one after a crash."""

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self.loader = Loader()
        self.answering: PendingAnswer | None = None
        self.attention: AttentionQuery | None = None
        self.usage: Counted | None = None
        """Tokens of the conversation and the draft, when last counted."""
        self.counting = False
        self.crashed = ""
        """What ended the engine's thread, if anything."""
        self._make_engine = make_engine
        self._engine = make_engine()
        self._number = 0

    @property
    def busy(self) -> bool:
        """Whether events are still to come."""
        return bool(self.answering or self.loader.pending or self.counting or self.attention)

    def notify(self, callback: Callable[[], None]) -> None:
        """Call `callback`, on the engine's thread, whenever there are events."""
        self._engine.notify = callback

    def start(self) -> None:
        self._engine.start()

    def load(self, load: Load) -> None:
        """Replace the model; after a crash, with a new engine."""
        if self.crashed:
            callback = self._engine.notify
            self._engine, self.crashed = self._make_engine(), ""
            self.notify(callback)
            self.start()
        self.loader.pending = load
        self._engine.send(load)

    def answer(self, node: Node, exchanges: tuple[Exchange, ...], settings: AnswerSettings) -> None:
        """Generate an answer in a node, after the tokens that it has already."""
        self.answering = PendingAnswer(self._next_number(), node)
        prefix = tuple(piece.token.id for piece in node.tokens if piece.token)
        self._engine.send(Ask(self.answering.number, exchanges, settings, prefix))

    def count(self, exchanges: tuple[Exchange, ...], settings: AnswerSettings) -> None:
        """Count tokens, if nothing more important is going on."""
        self.counting = True
        self._engine.send(Count(self._next_number(), exchanges, settings))

    def map_attention(
        self, exchanges: tuple[Exchange, ...], settings: AnswerSettings, report: Callable[[AttentionEvent], None]
    ) -> None:
        """Map the attention of the last answer; `report` gets the maps or the error."""
        self.attention = AttentionQuery(self._next_number(), report)
        self._engine.send(MapAttention(self.attention.number, exchanges, settings))

    def cancel_attention(self) -> None:
        query, self.attention = self.attention, None
        if query:
            self._engine.stop(query.number)

    def stop(self) -> None:
        if self.answering:
            self._engine.stop(self.answering.number)

    def end(self) -> bool:
        """Stop everything; returns whether the engine's thread has ended."""
        return self._engine.end()

    def receive(self) -> list[Event]:
        """Return the events since the last call; `handle` each."""
        return self._engine.receive()

    def handle(self, event: Event) -> PendingAnswer | None:
        """Update the state; returns the answer that the event ended, if any."""
        if self.attention and (reply := self.attention.reply(event)):
            query, self.attention = self.attention, None
            query.report(reply)
        match event:
            case Loading():
                self.loader.start()
            case Loaded():
                self.loader.finish(event)
            case Counted():
                self.usage, self.counting = event, False
            case AnswerStarted() | AnswerPiece() | AnswerFinished() if self.answering:
                return self._grow(self.answering, event)
            case Failed() | Crashed():
                return self._fail(event)
        return None

    def _grow(self, answer: PendingAnswer, event: AnswerStarted | AnswerPiece | AnswerFinished) -> PendingAnswer | None:
        match event:
            case AnswerStarted():
                answer.start = event
            case AnswerPiece():
                answer.grow(event)
            case AnswerFinished():
                self.answering = None
                answer.finish(event, self.loader.model)
                return answer

    def _fail(self, event: Failed | Crashed) -> PendingAnswer | None:
        request = event.request if isinstance(event, Failed) else None
        if isinstance(event, Crashed):
            self.crashed = event.problem
            self.loader.crash()
        if isinstance(request, Load):
            self.loader.fail()
        if request is None or isinstance(request, Count):
            self.counting = False
        if request is not None and not isinstance(request, Ask):
            return None
        answer, self.answering = self.answering, None
        if answer:
            answer.abandon()
        return answer

    def _next_number(self) -> int:
        self._number += 1
        return self._number
