"""Two answers to one question, side by side: of two models, loaded in turn, or with part of an image covered."""

from dataclasses import dataclass, field
from typing import Literal

from mlx_llava.engine.messages import Crashed, Event, Failed, Load, Loaded, Loading
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node, NumberedImage


@dataclass(frozen=True)
class AnswerIn:
    """Generate the answer to a question in this node."""

    node: Node
    question: Node


@dataclass(frozen=True)
class ShowBranch:
    """Show the branch that this node is on."""

    node: Node


Step = AnswerIn | Load | ShowBranch


@dataclass
class Comparison:
    """A comparison in progress. Events go in; the steps that the session has to take come out."""

    branch: Node
    """On the branch to show again at the end."""
    left: Node
    """The answer that exists already."""
    names: tuple[str, str]
    """Names of the two answers."""
    right: Node = field(default_factory=lambda: Node("assistant"))
    """The other answer; joins the conversation when it starts."""
    load: Load | None = None
    """The other model, when models are compared."""
    back: Load | None = None
    """The model to load again afterwards."""
    stage: Literal["loading", "answering", "returning", "ended"] = "loading"
    cancelled: bool = False

    @classmethod
    def of_models(cls, left: Node, current: Load, other: Load) -> "Comparison":
        """Compare an answer of the current model with one of another."""
        names = (figures.model_name_of(current), figures.model_name_of(other))
        return cls(left, left, names, load=other, back=current)

    @classmethod
    def of_cover(cls, image: NumberedImage, left: Node) -> "Comparison":
        """Compare an answer with one to the same question with part of an image covered."""
        return cls(image.node, left, ("original", f"picture {image.number} covered"), stage="answering")

    @property
    def status(self) -> str:
        """What is going on, or how the answers compare."""
        if self.stage == "loading":
            return "loading the other model"
        if self.stage == "answering":
            return "answering"
        if not self.right.facts:
            return "there is no other answer"
        same = "the answers are the same" if self.left.text == self.right.text else "the answers differ"
        return same if self.stage == "ended" else f"{same}; loading the previous model"

    def handle(self, event: Event) -> list[Step]:
        """Follow an event; returns what is to be done next."""
        match event:
            case Loading() if self.stage == "answering" and event.load is self.back:
                self.stage = "returning"
            case Loaded() if self.stage == "loading" and event.load is self.load:
                return self._start_answer()
            case Loaded() if self.stage == "returning" and event.load is self.back:
                return self._end()
            case Failed(request=Load()) | Crashed():
                return self._end()
        return []

    def answered(self, answer: Node) -> list[Step]:
        """An answer has ended; returns what is to be done next."""
        return self._end() if answer is self.right and self.load is None else []

    def _start_answer(self) -> list[Step]:
        """The other model is ready: it answers unless that was cancelled, then the previous one is loaded."""
        self.stage = "answering"
        answer = [AnswerIn(self.right, self.left.parent)] if self.left.parent and not self.cancelled else []
        return [*answer, *([self.back] if self.back else [])]

    def _end(self) -> list[Step]:
        ended, self.stage = self.stage == "ended", "ended"
        return [] if ended else [ShowBranch(self.branch)]
