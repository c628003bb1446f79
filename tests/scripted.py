"""A worker with scripted answers, for tests and for work on the screen without a model."""

import threading
import time
from collections.abc import Callable, Iterator

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AnswerStarted,
    Ask,
    Choice,
    Count,
    Counted,
    Event,
    Exchange,
    Failed,
    Load,
    Loaded,
    Loading,
    MapAttention,
    ModelFacts,
    Request,
)

FACTS = ModelFacts(
    name="scripted",
    adapter=None,
    context=2048,
    image_tokens=576,
    patches=24,
    side=336,
    fit="pad",
    mean=(0.48, 0.46, 0.41),
    template="vicuna_v1",
    system="Be kind.",
    bits=4,
    memory=4_100_000_000,
    device="CPU",
    seconds=1.5,
)


class ScriptedWorker:
    """Answers with `answer`, word by word; `gate` can hold an answer after its first word, `pause` slows it."""

    def __init__(self, answer: str | Callable[[Ask], str] = "It is a **cat**.", pause: float = 0.0) -> None:
        self.answer = answer
        self.pause = pause
        self.gate = threading.Event()
        self.gate.set()
        self.load_gate = threading.Event()
        self.load_gate.set()
        self.requests: list[Request] = []
        self.refusal = ""
        self.failure: BaseException | None = None
        self.closed = False

    def handle(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Event]:
        self.requests.append(request)
        if self.failure:
            raise self.failure
        match request:
            case Load():
                yield from self._load(request)
            case Ask() | MapAttention() if self.refusal:
                yield Failed(request, self.refusal, "Ask otherwise.")
            case Ask():
                yield from self._ask(request, cancelled)
            case Count():
                yield counted(request)

    def close(self) -> None:
        self.closed = True

    @property
    def questions(self) -> list[Ask]:
        return [request for request in self.requests if isinstance(request, Ask)]

    def _load(self, request: Load) -> Iterator[Event]:
        yield Loading(request, request.model or "scripted")
        self.load_gate.wait()
        if request.model == "nowhere":
            yield Failed(request, "nowhere: no such folder", "Name a folder.")
            return
        model = ModelFacts(**{**vars(FACTS), "name": request.model or "scripted", "adapter": request.adapter})
        yield Loaded(request, model)

    def _ask(self, request: Ask, cancelled: Callable[[], bool]) -> Iterator[Event]:
        text = self.answer if isinstance(self.answer, str) else self.answer(request)
        images = sum(len(exchange.images) for exchange in request.exchanges)
        yield AnswerStarted(request.number, 40 + 576 * images, 576 * images, 40, 0.12, 0.34, 0.46)
        count = 0
        for word in pieces(text):
            yield AnswerPiece(
                request.number, word, Choice(word, 0.9, count), (Choice(word, 0.9, count), Choice(" dog", 0.05, 999))
            )
            count += 1
            time.sleep(self.pause)
            while not (self.gate.wait(0.005) or cancelled()):
                pass
            if cancelled():
                yield AnswerFinished(request.number, "cancelled", count, 100.0, 4_200_000_000, 4_900_000_000)
                return
        yield AnswerFinished(request.number, "stop", count, 100.0, 4_200_000_000, 4_900_000_000)


def pieces(text: str) -> list[str]:
    """Split into words with their leading space, like tokens."""
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def counted(request: Count) -> Counted:
    """Count four characters as a token."""

    def length(exchanges: tuple[Exchange, ...]) -> int:
        return sum(len(e.question) + len(e.answer or "") for e in exchanges) // 4

    images = 576 * sum(len(e.images) for e in request.exchanges)
    return Counted(request.number, 35, images, length(request.exchanges[:-1]), length(request.exchanges[-1:]), 2048)
