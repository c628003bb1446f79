"""What a chat is, whatever shows it: the conversation, the draft's pictures, the model, the settings, the history.

A front calls methods and shows what they changed; events of the engine come in by `receive`. Knows neither MLX nor
Textual.
"""

import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AnswerSettings,
    AnswerStarted,
    Ask,
    Choice,
    Count,
    Counted,
    Crashed,
    Event,
    Exchange,
    Failed,
    Load,
    Loaded,
    Loading,
    ModelFacts,
)
from mlx_llava.engine.thread import Engine
from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.tui.images.attachments import Attachment
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.attention import Looking
from mlx_llava.tui.session.autosave import Description, Record
from mlx_llava.tui.session.comparison import Comparison
from mlx_llava.tui.session.conversation import Conversation, Node, Numbered
from mlx_llava.tui.session.settings import Settings

RATE = 1.0  # seconds over which the rate of tokens is taken


@dataclass(frozen=True)
class Opening:
    """How a chat begins."""

    load: Load | None = None
    """The model; None where nobody has chosen one yet."""
    images: tuple[Path, ...] = ()
    question: str = ""
    chat: int | None = None
    """A chat of the history to go on in."""


@dataclass
class Answering:
    """An answer on its way."""

    number: int
    node: Node
    began: AnswerStarted | None = None
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
        self.opened: Load | None = None
        self.comparison: Comparison | None = None
        self.answering: Answering | None = None
        self.counted: Counted | None = None
        self.counting = False
        self.crashed = ""
        self.looking: Looking | None = None
        self.editing: Node | None = None
        """The question that is asked anew with the draft, or the answer that is being corrected."""
        self.to_remember: Load | None = None
        """The model that is to begin with from now on, once it is there."""
        self._keep_settings = keep_settings
        self._make_engine = make_engine
        self.engine = make_engine()
        self._number = 0
        self._aside = self.draft  # what the draft was before a question was edited
        self._before: ModelFacts | None = None  # the model that another is loaded in place of

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
        self.send_load(Load(model, adapter, revision))

    def send_load(self, load: Load) -> None:
        """Have a model loaded."""
        self.loading = load
        self.engine.send(load)

    def attach(self, image: Attachment) -> None:
        """Put a picture beside the next question."""
        self.draft.images += (image,)

    def images(self) -> list[Numbered]:
        """All pictures, those of the draft last; while a question is edited, none of it and of what follows it."""
        return self.conversation.images(self.draft, self.editing)

    def image(self, number: int) -> Numbered:
        """A picture by its number; UsageError where there is none."""
        images = self.images()
        if not 1 <= number <= len(images):
            raise UsageError(f"there is no picture {number}", "/pictures lists them.")
        return images[number - 1]

    def switch(self, number: int) -> bool:
        """Hide a picture from the model, or show it again; whether it is shown now."""
        found = self.image(number)
        found.switch()
        self.record.switched(found.node, found.place)
        return found.on

    def remove(self, number: int) -> None:
        """Take a picture out of the draft."""
        found = self.image(number)
        if found.node is not self.draft:
            raise UsageError("that picture belongs to a question already", f"Switch it off: /off {number}")
        images = self.draft.images
        off = {n - (n > found.place) for n in self.draft.off - {found.place}}
        self.draft = Node("user", images=images[: found.place] + images[found.place + 1 :], off=off)

    def edit(self, node: Node | None) -> None:
        """Begin to edit a question, whose pictures are in the draft then, or an answer; None: edit nothing any more."""
        if self.editing and self.editing.role == "user":
            self.draft = self._aside
        self.editing = node
        if node and node.role == "user":
            self._aside, self.draft = self.draft, Node("user", images=node.images, off={*node.off})

    def ask(self, text: str) -> Node:
        """Ask with the draft's pictures, beside the question that is edited; the node of the answer that is to come."""
        self.check_free()
        edited = self.editing if self.editing and self.editing.role == "user" else None
        if edited and edited.parent is None:
            raise UsageError("that question is gone", "Ask anew.")
        images = self.draft.shown
        self.draft = Node("user")
        self.edit(None)
        question = self.conversation.add(Node("user", text, images), edited.parent if edited else None)
        self.record.question(question)
        return self.answer(question)

    def answer(self, question: Node, begin: Sequence[AnswerPiece] = ()) -> Node:
        """Answer a question, once more if it has answers; with the tokens of `begin` first."""
        self.check_free()
        return self.begin_answer(Node("assistant", tokens=[*begin]), question)

    def next_number(self) -> int:
        """The number of another request."""
        self._number += 1
        return self._number

    def begin_answer(self, node: Node, question: Node) -> Node:
        """Have a question answered in a node whose first tokens may be there."""
        self.conversation.add(node, question)
        self.answering = Answering(self.next_number(), node)
        ids = tuple(said.token.id for said in node.tokens if said.token)
        self.engine.send(Ask(self._number, self.conversation.exchanges(question), self.answer_settings(), ids))
        return node

    @property
    def noted(self) -> Node:
        """The last answer of which it is known what else it might have been; UsageError where there is none."""
        answers = [node for node in self.conversation.answers if any(said.token for said in node.tokens)]
        if not answers:
            raise UsageError("nothing else was noted", "/set alternatives on, then /again.")
        return answers[-1]

    def instead(self, answer: Node, place: int, other: Choice) -> Node:
        """Answer anew, beside an answer: as far as the token at `place` the same, there another, then the model's."""
        question, tokens = answer.parent, answer.tokens
        if question is None or not 0 <= place < len(tokens):
            raise UsageError(f"there is no token {place + 1}", "/tokens lists them.")
        said = tokens[place]
        return self.answer(question, [*tokens[:place], AnswerPiece(said.number, other.text, other, said.others)])

    def again(self) -> Node:
        """Answer the last question once more, beside the answer that is there."""
        if not self.conversation.questions:
            raise UsageError("there is no question yet", "Type one.")
        return self.answer(self.conversation.questions[-1])

    def correct(self, answer: Node, text: str) -> None:
        """Put a person's words in place of an answer, for the model to go on from and to be tuned on."""
        self.check_free()
        if text != answer.text:
            answer.text, answer.facts = text, {**answer.facts, "edited": True}
            self.record.corrected(answer)

    @property
    def comparing(self) -> bool:
        """Whether a comparison is on its way."""
        return self.comparison is not None and self.comparison.stage != "ended"

    def stop(self) -> None:
        """Stop the answer that is on its way, or that another model is loaded for."""
        if self.comparison:
            self.comparison.cancelled = True
        if self.answering:
            self.engine.stop(self.answering.number)

    def choose(self, node: Node, step: int) -> bool:
        """Show another branch beside a node; whether there is one."""
        self.check_free()
        if not self.conversation.choose(node, step):
            return False
        self.edit(None)
        self.record.shown(self.conversation.tip)
        return True

    def resume(self, key: int, conversation: Conversation) -> None:
        """Go on in a chat of the history, opened by the record."""
        self.check_free()
        self._show(conversation)
        self.record.resume(key)

    def new(self) -> None:
        """Begin another conversation."""
        self.check_free()
        self._show(Conversation())
        self.record.new()

    def _show(self, conversation: Conversation) -> None:
        self.conversation, self.draft, self.counted, self.editing = conversation, Node("user"), None, None

    def answer_settings(self) -> AnswerSettings:
        """How to answer, by the settings."""
        wanted = self.settings
        seed = random.SystemRandom().randrange(2**31) if wanted.seed is None else wanted.seed
        return AnswerSettings(
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
        edited = self.editing if self.editing and self.editing.role == "user" else None
        draft = Node("user", text, self.draft.shown, parent=edited.parent if edited else self.conversation.tip)
        exchanges = self.conversation.exchanges(draft) or (Exchange(""),)
        self.counting = True
        self.engine.send(Count(self.next_number(), exchanges, self.answer_settings()))

    def receive(self) -> list[Event]:
        """What happened since the last call, already noted here."""
        events = self.engine.receive()
        for event in events:
            self._note(event)
            if self.looking and self.looking.told(event):
                self.looking = None
        return events

    def _note(self, event: Event) -> None:
        match event:
            case Loading():
                self._await_model(event.load)
            case Loaded():
                self._loaded(event)
            case Counted():
                self.counted, self.counting = event, False
            case AnswerStarted() if self.answering:
                self.answering.began = event
            case AnswerPiece() if self.answering:
                self._grow(self.answering, event)
            case AnswerFinished() if self.answering:
                self._finish(self.answering, event)
            case Failed() | Crashed():
                self._fail(event)

    def _await_model(self, load: Load) -> None:
        self._before, self.model = self.model, None
        if self.comparison:
            self.comparison.loading(load)

    def _loaded(self, event: Loaded) -> None:
        self.model, self.opened = event.model, event.load
        if self.loading is event.load:
            self.loading = None
        if self.to_remember is event.load:
            self.to_remember = None
            self.set("model", event.load.model or figures.EMBEDDED)
        if self.comparison:
            self.comparison.loaded(event.load)

    def _grow(self, answering: Answering, event: AnswerPiece) -> None:
        answering.node.text += event.text
        answering.times = (*answering.times[-200:], time.monotonic())
        if event.token:
            answering.node.tokens.append(event)

    def _finish(self, answering: Answering, event: AnswerFinished) -> None:
        began = answering.began
        node, self.answering = answering.node, None
        node.facts = {"finish": event.finish, "tokens": event.tokens, "tokens_per_second": event.tokens_per_second}
        node.facts |= {"memory": event.memory, "peak": event.peak}
        if self.model:
            node.facts |= {"model": self.model.name, "variant": figures.model_name(self.model)}
        if began:
            node.facts |= {k: v for k, v in vars(began).items() if k != "number"}
        if node.text:
            self.record.answer(node)
        elif event.finish == "cancelled":
            self.conversation.remove(node)
        if self.comparison:
            self.comparison.answered(node)

    def _fail(self, event: Failed | Crashed) -> None:
        request = event.request if isinstance(event, Failed) else None
        if isinstance(event, Crashed):
            self.crashed, self.model = event.problem, None
        if isinstance(request, Load):
            self.model = self._before
        if request is None or isinstance(request, Load):
            self.loading = None
        if request is None or isinstance(request, Count):
            self.counting = False
        if request is None or isinstance(request, Ask):
            self._drop_answer()
        if self.comparison and self.comparing and (request is None or isinstance(request, Load)):
            self.comparison.end()

    def _drop_answer(self) -> None:
        """Forget an answer that will not come, or keep what was said of it."""
        answering, self.answering = self.answering, None
        if answering and answering.node.text:
            answering.node.facts = {"finish": "cancelled"}
            self.record.answer(answering.node)
        elif answering:
            self.conversation.remove(answering.node)
        if answering and self.comparison:
            self.comparison.answered(answering.node)

    def _describe(self) -> Description:
        model = self.model.name if self.model else (self.loading.model if self.loading else None) or "embedded"
        return model, vars(self.settings)

    def check_free(self) -> None:
        """Raise UsageError where nothing can be asked now."""
        if self.answering:
            raise UsageError("an answer is still on its way", "Wait for it, or stop it.")
        if self.comparing:
            raise UsageError("the model before is on its way back", "Wait for it.")
        if self.crashed:
            raise UsageError("the model is gone", "Bring it back with /model.")

    def set(self, name: str, text: str) -> None:
        """Change a setting as typed, and keep it; UsageError for what it cannot be."""
        before, self.settings = self.settings, self.settings.set(name, text)
        if self.settings.incognito and not self.record.incognito:
            self.record.hide()
            self.conversation.forget_keys()
        try:
            self._keep_settings(self.settings, before)
        except LlavaError as error:
            self.record.trouble.append(f"{error.problem} — {error.advice}")

    def close(self) -> bool:
        """Stop everything; whether the engine's thread has ended."""
        self.stop()
        return self.engine.end()
