"""What a chat is, whatever shows it: the conversation, the draft's pictures, the model, the settings, the history.

A front calls methods and shows what they changed; events of the engine come in by `receive`. Knows neither MLX nor
Textual.
"""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.tui.conversation import Conversation, Node, Numbered
from mlx_llava.tui.engine import Engine
from mlx_llava.tui.messages import (
    Ask,
    Began,
    Count,
    Counted,
    Crashed,
    Event,
    Exchange,
    Failed,
    Finished,
    Load,
    Loaded,
    Loading,
    Look,
    Looked,
    Manner,
    ModelFacts,
    Said,
)
from mlx_llava.tui.pictures import Attachment
from mlx_llava.tui.record import Description, Record
from mlx_llava.tui.settings import Settings

LookEvent = Looked | Failed | Crashed
RATE = 1.0  # seconds over which the rate of tokens is taken


@dataclass(frozen=True)
class Opening:
    """How a chat begins."""

    load: Load | None = None
    """The model; None where nobody has chosen one yet."""
    pictures: tuple[Path, ...] = ()
    question: str = ""
    chat: int | None = None
    """A chat of the history to go on in."""


@dataclass
class Answering:
    """An answer on its way."""

    number: int
    node: Node
    began: Began | None = None
    times: tuple[float, ...] = ()

    @property
    def rate(self) -> float:
        """Tokens a second, lately."""
        recent = [t for t in self.times if t > self.times[-1] - RATE] if self.times else []
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else 0.0


class Session:
    """One window's chat."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        settings: Settings,
        record: Record,
        keep_settings: Callable[[Settings, Settings], None] = lambda settings, before: None,
    ) -> None:
        self.settings = settings
        self.record = record
        record.describe = self._describe
        self.conversation = Conversation()
        self.draft = Node("user")
        self.model: ModelFacts | None = None
        self.loading: Load | None = None
        self.answering: Answering | None = None
        self.counted: Counted | None = None
        self.counting = False
        self.crashed = ""
        self._looking: tuple[int, Callable[[LookEvent], None]] | None = None
        self._keep_settings = keep_settings
        self._make_engine = make_engine
        self.engine = make_engine()
        self._number = 0

    def start(self) -> None:
        """Start the engine's thread."""
        self.engine.start()

    def load(self, model: str | None = None, adapter: str | None = None, revision: str | None = None) -> None:
        """Replace the model; after a crash, with a new engine."""
        if self.crashed:
            notify = self.engine.notify
            self.engine, self.crashed = self._make_engine(), ""
            self.engine.notify = notify
            self.engine.start()
        self.loading = Load(model, adapter, revision)
        self.engine.send(self.loading)

    def attach(self, picture: Attachment) -> None:
        """Put a picture beside the next question."""
        self.draft.pictures += (picture,)

    def pictures(self) -> list[Numbered]:
        """All pictures, those of the draft last."""
        return self.conversation.pictures(self.draft)

    def picture(self, number: int) -> Numbered:
        """A picture by its number; UsageError where there is none."""
        pictures = self.pictures()
        if not 1 <= number <= len(pictures):
            raise UsageError(f"there is no picture {number}", "/pictures lists them.")
        return pictures[number - 1]

    def switch(self, number: int) -> bool:
        """Hide a picture from the model, or show it again; whether it is shown now."""
        found = self.picture(number)
        found.switch()
        self.record.switched(found.node, found.place)
        return found.on

    def remove(self, number: int) -> None:
        """Take a picture out of the draft."""
        found = self.picture(number)
        if found.node is not self.draft:
            raise UsageError("that picture belongs to a question already", f"Switch it off: /off {number}")
        pictures = self.draft.pictures
        self.draft = Node("user", pictures=pictures[: found.place] + pictures[found.place + 1 :])

    def ask(self, text: str, parent: Node | None = None, before: tuple[Attachment, ...] = ()) -> Node:
        """Ask with the draft's pictures, after those of `before`; the node of the answer that is to come."""
        self._check_free()
        pictures, self.draft = (*before, *self.draft.shown), Node("user")
        question = self.conversation.add(Node("user", text, pictures), parent)
        self.record.question(question)
        return self.answer(question)

    def answer(self, question: Node) -> Node:
        """Answer a question, once more if it has answers."""
        self._check_free()
        node = self.conversation.add(Node("assistant"), question)
        self._number += 1
        self.answering = Answering(self._number, node)
        self.engine.send(Ask(self._number, self.conversation.exchanges(question), self.manner()))
        return node

    def again(self) -> Node:
        """Answer the last question once more, beside the answer that is there."""
        if not self.conversation.questions:
            raise UsageError("there is no question yet", "Type one.")
        return self.answer(self.conversation.questions[-1])

    def correct(self, answer: Node, text: str) -> None:
        """Put a person's words in place of an answer, for the model to go on from and to be tuned on."""
        self._check_free()
        answer.text, answer.facts = text, {**answer.facts, "edited": True}
        self.record.corrected(answer)

    def edit(self, question: Node, text: str) -> Node:
        """Ask a question in other words, beside the one that is there and with its pictures."""
        if question.parent is None:
            raise UsageError("that question is gone", "Ask anew.")
        return self.ask(text, question.parent, question.shown)

    def stop(self) -> None:
        """Stop the answer that is on its way."""
        if self.answering:
            self.engine.stop(self.answering.number)

    def choose(self, node: Node, step: int) -> bool:
        """Show another branch beside a node; whether there is one."""
        self._check_free()
        if not self.conversation.choose(node, step):
            return False
        self.record.shown(self.conversation.tip)
        return True

    def resume(self, key: int, conversation: Conversation) -> None:
        """Go on in a chat of the history, opened by the record."""
        self._check_free()
        self.conversation, self.draft, self.counted = conversation, Node("user"), None
        self.record.resume(key)

    def new(self) -> None:
        """Begin another conversation."""
        self._check_free()
        self.conversation, self.draft, self.counted = Conversation(), Node("user"), None
        self.record.new()

    def manner(self) -> Manner:
        """How to answer, by the settings."""
        wanted = self.settings
        seed = random.SystemRandom().randrange(2**31) if wanted.seed is None else wanted.seed
        return Manner(
            system=wanted.system,
            template=wanted.template,
            fit=wanted.fit,
            max_tokens=wanted.max_tokens,
            temperature=wanted.temperature,
            top_p=wanted.top_p,
            seed=seed,
            num_top=5 if wanted.alternatives else 0,
        )

    def count(self, text: str) -> None:
        """Have the tokens counted that the conversation and a draft take."""
        if self.model is None or self.answering or self.crashed:
            return
        draft = Node("user", text, self.draft.shown, parent=self.conversation.tip)
        exchanges = self.conversation.exchanges(draft) or (Exchange(""),)
        self._number += 1
        self.counting = True
        self.engine.send(Count(self._number, exchanges, self.manner()))

    def seen(self) -> tuple[tuple[Exchange, ...], list[Numbered]]:
        """The conversation up to the last answer, and its pictures; UsageError where the model saw none."""
        answer = next((node for node in reversed(self.conversation.answers) if node.text and node.parent), None)
        if answer is None or answer.parent is None:
            raise UsageError("there is no answer yet", "Ask something.")
        *before, last = self.conversation.exchanges(answer.parent)
        exchanges = (*before, replace(last, answer=answer.text))
        shown = [shown for exchange in exchanges for shown in exchange.pictures]
        if not shown:
            raise UsageError("the last answer saw no picture", "/image PATH attaches one.")
        pictures = self.pictures()
        return exchanges, [next(p for p in pictures if p.picture.shown is one) for one in shown]

    def look(self, tell: Callable[[LookEvent], None]) -> None:
        """Find out where the last answer looked; `tell` gets what comes of it."""
        self._check_free()
        exchanges, _ = self.seen()
        self._number += 1
        self._looking = self._number, tell
        self.engine.send(Look(self._number, exchanges, self.manner()))

    def look_away(self) -> None:
        """Nobody waits for it any more."""
        looking, self._looking = self._looking, None
        if looking:
            self.engine.stop(looking[0])

    def receive(self) -> list[Event]:
        """What happened since the last call, already noted here."""
        events = self.engine.receive()
        for event in events:
            self._note(event)
            self._tell(event)
        return events

    def _tell(self, event: Event) -> None:
        """Tell who looks what came of it."""
        match self._looking, event:
            case (int(number), tell), (Looked(number=told) | Failed(request=Look(number=told))) if told == number:
                self._looking = None
                tell(event)
            case (_, tell), Crashed():
                self._looking = None
                tell(event)

    def _note(self, event: Event) -> None:
        match event:
            case Loading():
                self.model = None
            case Loaded():
                self.model, self.loading = event.model, None
            case Counted():
                self.counted, self.counting = event, False
            case Began() if self.answering:
                self.answering.began = event
            case Said() if self.answering:
                self._grow(self.answering, event)
            case Finished() if self.answering:
                self._finish(self.answering, event)
            case Failed() | Crashed():
                self._fail(event)

    def _grow(self, answering: Answering, event: Said) -> None:
        answering.node.text += event.text
        answering.times = (*answering.times[-200:], time.monotonic())
        if event.token:
            answering.node.tokens.append(event)

    def _finish(self, answering: Answering, event: Finished) -> None:
        began = answering.began
        node, self.answering = answering.node, None
        node.facts = {"finish": event.finish, "tokens": event.tokens, "tokens_per_second": event.tokens_per_second}
        node.facts |= {"memory": event.memory, "peak": event.peak, "model": self.model.name if self.model else ""}
        if began:
            node.facts |= {k: v for k, v in vars(began).items() if k != "number"}
        if node.text:
            self.record.answer(node)
        elif event.finish == "cancelled":
            self.conversation.remove(node)

    def _fail(self, event: Failed | Crashed) -> None:
        request = event.request if isinstance(event, Failed) else None
        if isinstance(event, Crashed):
            self.crashed, self.model = event.problem, None
        if request is None or isinstance(request, Load):
            self.loading = None
        if request is None or isinstance(request, Count):
            self.counting = False
        if request is None or isinstance(request, Ask):
            self._drop_answer()

    def _drop_answer(self) -> None:
        """Forget an answer that will not come, or keep what was said of it."""
        answering, self.answering = self.answering, None
        if answering and answering.node.text:
            answering.node.facts = {"finish": "cancelled"}
            self.record.answer(answering.node)
        elif answering:
            self.conversation.remove(answering.node)

    def _describe(self) -> Description:
        model = self.model.name if self.model else (self.loading.model if self.loading else None) or "embedded"
        return model, vars(self.settings)

    def _check_free(self) -> None:
        if self.answering:
            raise UsageError("an answer is still on its way", "Wait for it, or stop it.")
        if self.crashed:
            raise UsageError("the model is gone", "Bring it back with /model.")

    def set(self, name: str, text: str) -> None:
        """Change a setting as typed, and keep it; UsageError for what it cannot be."""
        before, self.settings = self.settings, self.settings.set(name, text)
        if self.settings.incognito and not self.record.incognito:
            self.record.hide()
        try:
            self._keep_settings(self.settings, before)
        except LlavaError as error:
            self.record.trouble.append(f"{error.problem} — {error.advice}")

    def close(self) -> bool:
        """Stop everything; whether the engine's thread has ended."""
        self.stop()
        return self.engine.end()
