"""The state of one chat, independent of the front end.

A front end calls methods and shows what changed; `receive` takes in the events of the engine. Knows neither MLX nor
Textual.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import AnswerPiece, Choice, Event, Exchange, Load, Loaded, ModelFacts
from mlx_llava.engine.thread import Engine
from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.tui.images.attachments import Attachment
from mlx_llava.tui.session import attention
from mlx_llava.tui.session.answering import PendingAnswer
from mlx_llava.tui.session.autosave import Description, Record
from mlx_llava.tui.session.client import EngineClient
from mlx_llava.tui.session.comparison import AnswerIn, Comparison, ShowBranch, Step
from mlx_llava.tui.session.conversation import Conversation, Node, NumberedImage
from mlx_llava.tui.session.draft import Draft
from mlx_llava.tui.session.settings import Settings


@dataclass(frozen=True)
class Opening:
    """How a chat starts."""

    load: Load | None = None
    """The model; None if the user has not chosen one yet."""
    images: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    question: str = ""
    chat: int | None = None
    """Key of a saved chat to continue."""


class Session:
    """One window's chat."""

    def __init__(
        self,
        make_engine: Callable[[], Engine],
        settings: Settings,
        record: Record,
        save_settings: Callable[[Settings, Settings], None] = lambda settings, before: None,
        saved: Settings | None = None,
    ) -> None:
        """Start with `settings`, which differ from the `saved` ones where the command line says so."""
        self.settings = settings
        self._saved = saved or settings
        self.record = record
        record.describe = self._describe
        self.conversation = Conversation()
        self.draft = Draft()
        self.comparison: Comparison | None = None
        self.engine = EngineClient(make_engine)
        self._save_settings = save_settings
        self._new_default: Load | None = None

    @property
    def model(self) -> ModelFacts | None:
        return self.engine.model

    @property
    def answering(self) -> PendingAnswer | None:
        return self.engine.answering

    @property
    def comparing(self) -> bool:
        return self.comparison is not None and self.comparison.stage != "ended"

    def load(self, load: Load, *, make_default: bool = False) -> None:
        """Replace the model; `make_default` saves it as the default once it is ready."""
        self._new_default = load if make_default else self._new_default
        self.engine.load(load)

    def stop(self) -> None:
        """Stop the answer in progress, and keep a comparison from starting one."""
        if self.comparison:
            self.comparison.cancelled = True
        self.engine.stop()

    def close(self) -> bool:
        """Stop everything; returns whether the engine's thread has ended."""
        self.stop()
        return self.engine.end()

    def images(self) -> list[NumberedImage]:
        """All images, the draft's last. While a question is edited, images from it on are left out."""
        return self.conversation.images(self.draft.node, self.draft.editing)

    def image(self, number: int) -> NumberedImage:
        """Return an image by its number; UsageError if there is none."""
        images = self.images()
        if not 1 <= number <= len(images):
            raise UsageError(f"there is no picture {number}", "/pictures lists them.")
        return images[number - 1]

    def switch(self, number: int) -> None:
        """Hide an image from the model, or show it again."""
        image = self.image(number)
        image.switch()
        self.record.switch(image)

    def remove(self, number: int) -> None:
        """Remove an image from the draft."""
        image = self.image(number)
        if image.node is not self.draft.node:
            raise UsageError("that picture belongs to an earlier question", f"Switch it off: /off {number}")
        self.draft.remove(image.place)

    def ask(self, text: str) -> None:
        """Ask with the draft's images, on a new branch if a question is being edited."""
        self.check_free()
        edited = self.draft.question
        if edited and edited.parent is None:
            raise UsageError("the edited question no longer exists", "Ask it as a new one.")
        images = self.draft.take_images()
        question = self.conversation.add(Node("user", text, images), edited.parent if edited else None)
        self.record.add(question)
        self.answer(question)

    def answer(self, question: Node, prefix: Sequence[AnswerPiece] = ()) -> None:
        """Answer a question, on a new branch if it has answers; the answer starts with the tokens of `prefix`."""
        self.check_free()
        self._start_answer(Node("assistant", tokens=[*prefix]), question)

    def again(self) -> None:
        """Answer the last question once more, on a new branch."""
        if not self.conversation.questions:
            raise UsageError("there is no question yet", "Type one.")
        self.answer(self.conversation.questions[-1])

    def instead(self, answer: Node, place: int, choice: Choice) -> None:
        """Branch off an answer at the token at `place`: it becomes `choice`, and the model continues from there."""
        question, tokens = answer.parent, answer.tokens
        if question is None or not 0 <= place < len(tokens):
            raise UsageError(f"there is no token {place + 1}", "/tokens lists them.")
        old = tokens[place]
        self.answer(question, [*tokens[:place], AnswerPiece(old.number, choice.text, choice, old.others)])

    def correct(self, answer: Node, text: str) -> None:
        """Replace the text of an answer by the user's."""
        self.check_free()
        if text != answer.text:
            answer.text, answer.facts = text, {**answer.facts, "edited": True}
            self.record.save_correction(answer)

    def compare(self, load: Load) -> Comparison:
        """Let another model answer the last question too, then load the current one again."""
        left, current = self._last_answer(), self.engine.loaded
        if self.engine.loading or current is None:
            raise UsageError("a model is being loaded", "Wait for it.")
        self.comparison = Comparison.of_models(left, current, load)
        self.load(load)
        return self.comparison

    def cover(self, image: NumberedImage, covered: Attachment) -> Comparison:
        """Answer the last question on a branch that has `covered` in place of an image."""
        left = self._last_answer()
        copies = self.conversation.copy_with(image, covered)
        for node in copies:
            self.record.add(node)
        self.comparison = Comparison.of_cover(image, left)
        self._start_answer(self.comparison.right, copies[-1])
        return self.comparison

    def map_attention(self, report: Callable[[attention.AttentionEvent], None]) -> None:
        """Map the attention of the last answer; `report` gets the maps or the error."""
        self.check_free()
        self.engine.map_attention(self.attention_subject().exchanges, self.settings.for_answer(), report)

    def attention_subject(self) -> attention.Subject:
        """Return the answer that attention is mapped for; UsageError if there is none."""
        return attention.subject(self.conversation, self.images())

    def count(self, text: str) -> None:
        """Count the tokens of the conversation, with `text` as the draft."""
        if self.model is None or self.answering or self.engine.crashed:
            return
        edited = self.draft.question
        parent = edited.parent if edited else self.conversation.tip
        draft = Node("user", text, self.draft.node.active_images, parent=parent)
        self.engine.count(self.conversation.exchanges(draft) or (Exchange(""),), self.settings.for_answer())

    def choose(self, node: Node, step: int) -> bool:
        """Show another branch next to a node; returns whether there is one."""
        self.check_free()
        if not self.conversation.choose(node, step):
            return False
        self.draft.edit(None)
        self.record.show(self.conversation.tip)
        return True

    def resume(self, key: int, conversation: Conversation) -> None:
        """Continue a saved chat that the record has opened."""
        self.check_free()
        self._show(conversation)
        self.record.resume(key)

    def new(self) -> None:
        self.check_free()
        self._show(Conversation())
        self.record.new()

    def set(self, name: str, text: str) -> None:
        """Change a setting as typed, and save it alone; UsageError for a value that is not allowed."""
        self.settings, before = self.settings.set(name, text), self._saved
        self._saved = before.set(name, text)
        if self.settings.incognito and not self.record.incognito:
            self.record.hide()
            self.conversation.forget_keys()
        try:
            self._save_settings(self._saved, before)
        except LlavaError as error:
            self.record.trouble.append(f"{error.problem} — {error.advice}")

    def check_free(self) -> None:
        """Raise UsageError if the model cannot answer now."""
        if self.answering:
            raise UsageError("an answer is in progress", "Wait for it, or stop it.")
        if self.comparing:
            raise UsageError("a comparison is in progress", "Wait until the previous model is back.")
        if self.engine.crashed:
            raise UsageError("the model crashed", "/model loads it again.")

    def receive(self) -> list[Event]:
        """Take in the events since the last call, and return them."""
        events = self.engine.receive()
        for event in events:
            if answer := self.engine.handle(event):
                self._end_answer(answer)
            if isinstance(event, Loaded) and event.load is self._new_default:
                self._new_default = None
                self.set("model", event.load.model or EMBEDDED)
            if self.comparison:
                self._take(self.comparison.handle(event))
        return events

    def _take(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case AnswerIn():
                    self._start_answer(step.node, step.question)
                case Load():
                    self.load(step)
                case ShowBranch() if self.conversation.choose(step.node, 0):
                    self.record.show(self.conversation.tip)

    def _start_answer(self, node: Node, question: Node) -> None:
        self.conversation.add(node, question)
        self.engine.answer(node, self.conversation.exchanges(question), self.settings.for_answer())

    def _end_answer(self, answer: PendingAnswer) -> None:
        """Save an answer; one without text is removed if it was cancelled."""
        if answer.node.text:
            self.record.add(answer.node)
        elif answer.cancelled:
            self.conversation.remove(answer.node)
        if self.comparison:
            self._take(self.comparison.answered(answer.node))

    def _last_answer(self) -> Node:
        self.check_free()
        answer = self.conversation.tip
        if answer.role != "assistant" or answer.parent is None:
            raise UsageError("there is no answer to compare with", "Ask something.")
        return answer

    def _show(self, conversation: Conversation) -> None:
        self.conversation, self.draft, self.engine.usage = conversation, Draft(), None

    def _describe(self) -> Description:
        model = self.model.name if self.model else None
        pending = self.engine.loading
        return model or (pending.model if pending else None) or EMBEDDED, vars(self.settings)
