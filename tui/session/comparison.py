"""Two answers to one question: of two models, one after the other, as memory holds one; or with a picture covered."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mlx_llava.engine.messages import Load
from mlx_llava.errors import UsageError
from mlx_llava.tui.images.attachments import Attachment
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node, Numbered

if TYPE_CHECKING:
    from mlx_llava.tui.session.session import Session


@dataclass
class Comparison:
    """A comparison on its way; the session tells it what happens."""

    session: "Session"
    before: Node
    """The branch that is shown again at the end."""
    left: Node
    """The answer that is there."""
    names: tuple[str, str]
    """What the answers are called."""
    right: Node = field(default_factory=lambda: Node("assistant"))
    """The other answer; a branch of the conversation once it has begun."""
    load: Load | None = None
    """The other model, if it is about one."""
    back: Load | None = None
    """The model before."""
    stage: Literal["loading", "answering", "returning", "ended"] = "loading"
    cancelled: bool = False

    @property
    def told(self) -> str:
        """What is going on, and how the answers compare once both are there."""
        if self.stage == "loading":
            return "loading the other model"
        if self.stage == "answering":
            return "answering"
        if not self.right.facts:
            return "there is no other answer"
        same = "the answers are the same" if self.left.text == self.right.text else "the answers differ"
        return same if self.stage == "ended" else f"{same}; loading the model before"

    def loading(self, load: Load) -> None:
        """A model is on its way."""
        if self.stage == "answering" and load is self.back:
            self.stage = "returning"

    def loaded(self, load: Load) -> None:
        """A model is there: ask it, or show what was there before."""
        if self.stage == "loading" and load is self.load and self.left.parent and self.back:
            self.stage = "answering"
            if not self.cancelled:
                self.session.begin_answer(self.right, self.left.parent)
            self.session.send_load(self.back)
        elif self.stage == "returning" and load is self.back:
            self.end()

    def answered(self, answer: Node) -> None:
        """An answer has ended, or will not come."""
        if answer is self.right and self.load is None:
            self.end()

    def end(self) -> None:
        """Show the conversation as it was before."""
        self.stage = "ended"
        if self.session.conversation.choose(self.before, 0):
            self.session.record.shown(self.session.conversation.tip)


def compare(session: "Session", load: Load) -> None:
    """Have another model answer the last question too; its answer becomes a branch, and this model comes back."""
    left, back = _answer(session), session.opened
    if session.loading or back is None:
        raise UsageError("a model is on its way", "Wait for it.")
    names = (figures.model_name_of(back), figures.model_name_of(load))
    session.comparison = Comparison(session, left, left, names, load=load, back=back)
    session.send_load(load)


def cover(session: "Session", shown: Numbered, image: Attachment) -> None:
    """Ask the last question again with another picture in the place of one; the answer becomes a branch."""
    left, node = _answer(session), shown.node
    path = session.conversation.path()[:-1]
    if node not in path:
        raise UsageError("that picture is not in this chat any more", "Open its chat, or show its branch.")
    parent = node.parent
    for old in path[path.index(node) :]:  # what was said since the picture came is said again, to a branch of its own
        images = old.images
        if old is node:
            images = tuple(image if n == shown.place else other for n, other in enumerate(images))
        new = Node(old.role, old.text, images, set(old.off), facts=dict(old.facts))
        parent = session.conversation.add(new, parent)
        (session.record.question if old.role == "user" else session.record.answer)(parent)
    names = ("as it is", f"picture {shown.number} covered")
    right = session.begin_answer(Node("assistant"), parent or session.conversation.root)
    session.comparison = Comparison(session, node, left, names, right, stage="answering")


def _answer(session: "Session") -> Node:
    """The last answer; UsageError where there is none."""
    session.check_free()
    left = session.conversation.tip
    if left.role != "assistant" or left.parent is None:
        raise UsageError("there is no answer to compare with", "Ask something.")
    return left
