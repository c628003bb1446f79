"""The session's side of the engine: sends requests and keeps the state that their events report."""

from collections.abc import Callable

from mlx_llava.engine import messages
from mlx_llava.engine.thread import Engine
from mlx_llava.tui.session.answering import PendingAnswer
from mlx_llava.tui.session.attention import AttentionEvent, AttentionQuery
from mlx_llava.tui.session.conversation import Node

Exchanges = tuple[messages.Exchange, ...]


class EngineClient:
    """Talks to an engine, and to a new one after a crash."""

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self.model: messages.ModelFacts | None = None
        """The model that answers."""
        self.loaded: messages.Load | None = None
        """The request that loaded the last model."""
        self.loading: messages.Load | None = None
        """The last request to load a model, until it is ready."""
        self.answering: PendingAnswer | None = None
        self.attention: AttentionQuery | None = None
        self.usage: messages.Counted | None = None
        """Tokens of the conversation and the draft, when last counted."""
        self.counting = False
        self.crashed = ""
        """What ended the engine's thread, if anything."""
        self._make_engine = make_engine
        self._engine = make_engine()
        self._number = 0
        self._replaced_model: messages.ModelFacts | None = None

    @property
    def busy(self) -> bool:
        """Whether events are still to come."""
        return bool(self.answering or self.loading or self.counting or self.attention)

    def notify(self, callback: Callable[[], None]) -> None:
        """Call `callback`, on the engine's thread, whenever there are events."""
        self._engine.notify = callback

    def start(self) -> None:
        self._engine.start()

    def load(self, load: messages.Load) -> None:
        """Replace the model; after a crash, with a new engine."""
        if self.crashed:
            callback = self._engine.notify
            self._engine, self.crashed = self._make_engine(), ""
            self.notify(callback)
            self.start()
        self.loading = load
        self._engine.send(load)

    def answer(self, node: Node, exchanges: Exchanges, settings: messages.AnswerSettings) -> None:
        """Generate an answer in a node, after the tokens that it has already."""
        self.answering = PendingAnswer(self._next_number(), node)
        prefix = tuple(piece.token.id for piece in node.tokens if piece.token)
        self._engine.send(messages.Ask(self.answering.number, exchanges, settings, prefix))

    def count(self, exchanges: Exchanges, settings: messages.AnswerSettings) -> None:
        """Count tokens, if nothing more important is going on."""
        self.counting = True
        self._engine.send(messages.Count(self._next_number(), exchanges, settings))

    def map_attention(
        self, exchanges: Exchanges, settings: messages.AnswerSettings, report: Callable[[AttentionEvent], None]
    ) -> None:
        """Map the attention of the last answer; `report` gets the maps or the error."""
        self.attention = AttentionQuery(self._next_number(), report)
        self._engine.send(messages.MapAttention(self.attention.number, exchanges, settings))

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

    def receive(self) -> list[messages.Event]:
        """Return the events since the last call; `handle` each."""
        return self._engine.receive()

    def handle(self, event: messages.Event) -> PendingAnswer | None:
        """Update the state; returns the answer that the event ended, if any."""
        if self.attention and (reply := self.attention.reply(event)):
            query, self.attention = self.attention, None
            query.report(reply)
        match event:
            case messages.Loading():
                self._replaced_model, self.model = self.model, None
            case messages.Loaded():
                self.model, self.loaded = event.model, event.load
                self.loading = None if self.loading is event.load else self.loading
            case messages.Counted():
                self.usage, self.counting = event, False
            case messages.AnswerStarted() | messages.AnswerPiece() | messages.AnswerFinished() if self.answering:
                return self._grow(self.answering, event)
            case messages.Failed() | messages.Crashed():
                return self._fail(event)
        return None

    def _grow(self, answer: PendingAnswer, event: messages.Event) -> PendingAnswer | None:
        match event:
            case messages.AnswerStarted():
                answer.start = event
            case messages.AnswerPiece():
                answer.grow(event)
            case messages.AnswerFinished():
                self.answering = None
                answer.finish(event, self.model)
                return answer

    def _fail(self, event: messages.Failed | messages.Crashed) -> PendingAnswer | None:
        request = event.request if isinstance(event, messages.Failed) else None
        if isinstance(event, messages.Crashed):
            self.crashed, self.model, self.loading = event.problem, None, None
        if isinstance(request, messages.Load):
            self.model, self.loading = self._replaced_model, None
        if request is None or isinstance(request, messages.Count):
            self.counting = False
        if request is not None and not isinstance(request, messages.Ask):
            return None
        answer, self.answering = self.answering, None
        if answer:
            answer.abandon()
        return answer

    def _next_number(self) -> int:
        self._number += 1
        return self._number
