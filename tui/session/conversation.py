"""A conversation as a tree: every question may have several answers, every answer several continuations.

One path through it is shown. Knows no screen, no model and no file.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_llava.engine.messages import AnswerPiece, Exchange
from mlx_llava.tui.images.attachments import Attachment

CODE = re.compile(r"^(```|~~~)[^\n]*\n(.*?)^\1", re.DOTALL | re.MULTILINE)

Role = Literal["user", "assistant"]


@dataclass(eq=False)
class Node:
    """A question or an answer."""

    role: Role
    text: str = ""
    images: tuple[Attachment, ...] = ()
    off: set[int] = field(default_factory=set)
    """Places of pictures that are not shown to the model."""
    parent: "Node | None" = field(default=None, repr=False)
    children: list["Node"] = field(default_factory=list, repr=False)
    chosen: int = 0
    """Which child is on the path."""
    key: int | None = None
    """Its number in the history, once it is there."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What an answer took."""
    tokens: list[AnswerPiece] = field(default_factory=list)
    """An answer token by token, where alternatives were asked for."""

    @property
    def shown(self) -> tuple[Attachment, ...]:
        """The pictures that the model gets."""
        return tuple(image for n, image in enumerate(self.images) if n not in self.off)

    @property
    def place(self) -> tuple[int, int]:
        """Which of how many branches it is, from 1."""
        siblings = self.parent.children if self.parent else []
        return (siblings.index(self) + 1, len(siblings)) if self in siblings else (1, 1)  # taken out, or the root


@dataclass(frozen=True)
class Numbered:
    """A picture of a conversation, by its number from 1."""

    number: int
    node: Node
    place: int

    @property
    def image(self) -> Attachment:
        """The picture."""
        return self.node.images[self.place]

    @property
    def on(self) -> bool:
        """Whether the model sees it."""
        return self.place not in self.node.off

    def switch(self) -> None:
        """Show it to the model no longer, or again."""
        self.node.off ^= {self.place}


class Conversation:
    """A tree of questions and answers, and the path through it."""

    def __init__(self) -> None:
        self.root = Node("assistant")

    def path(self) -> list[Node]:
        """What is shown, from the first question on."""
        return list(self._walk(self.root))

    @property
    def tip(self) -> Node:
        """The last node of the path; the root where there is none."""
        path = self.path()
        return path[-1] if path else self.root

    @property
    def questions(self) -> list[Node]:
        """The questions of the path."""
        return [node for node in self.path() if node.role == "user"]

    @property
    def answers(self) -> list[Node]:
        """The answers of the path."""
        return [node for node in self.path() if node.role == "assistant"]

    def images(self, draft: Node, before: Node | None = None) -> list[Numbered]:
        """The pictures of the path, as far as the question `before`, and of a draft behind it."""
        questions = self.questions
        nodes = [*(questions[: questions.index(before)] if before in questions else questions), draft]
        places = [(node, place) for node in nodes for place in range(len(node.images))]
        return [Numbered(n, *place) for n, place in enumerate(places, 1)]

    def add(self, node: Node, parent: Node | None = None) -> Node:
        """Put a node behind `parent`, or behind the tip, and the path through it."""
        node.parent = parent or self.tip
        node.parent.children.append(node)
        node.parent.chosen = len(node.parent.children) - 1
        return node

    def remove(self, node: Node) -> None:
        """Take a node out, and the path back to a sibling."""
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent.chosen = max(len(node.parent.children) - 1, 0)

    def choose(self, node: Node, step: int) -> bool:
        """Lead the path through another branch beside `node`; whether there is one."""
        parent = node.parent
        if parent is None or len(parent.children) < 2:
            return False
        parent.chosen = (parent.children.index(node) + step) % len(parent.children)
        return True

    def forget_keys(self) -> None:
        """Belong to no history any more."""
        waiting = [self.root]
        while waiting:
            node = waiting.pop()
            node.key = None
            waiting += node.children

    def exchanges(self, upto: Node) -> tuple[Exchange, ...]:
        """The conversation up to the question `upto`, as the model gets it.

        A question that was never answered is left out; its pictures stand with the next one.
        """
        exchanges, waiting = [], ()
        for question in ancestors(upto):
            if question.role != "user":
                continue
            shown = (*waiting, *(image.file for image in question.shown))
            answer = None if question is upto else answer_on_path(question, upto)
            if question is not upto and not answer:
                waiting = shown
                continue
            exchanges.append(Exchange(question.text, shown, answer))
            waiting = ()
        return tuple(exchanges)

    def _walk(self, node: Node) -> Iterator[Node]:
        while node.children:
            node = node.children[node.chosen]
            yield node


def ancestors(node: Node) -> Sequence[Node]:
    """From the first question to `node`."""
    line = []
    while node.parent is not None:
        line.append(node)
        node = node.parent
    return line[::-1]


def answer_on_path(question: Node, upto: Node) -> str | None:
    """What was answered to `question` on the way to `upto`."""
    return next((n.text for n in ancestors(upto) if n.parent is question and n.role == "assistant"), None)


def code_blocks(text: str) -> list[str]:
    """The code between fences."""
    return [match[2] for match in CODE.finditer(f"{text}\n")]
