"""A conversation as a tree: a question may have several answers, an answer several follow-up questions.

One path through the tree is shown. Knows no screen, model or file.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from mlx_llava.engine.messages import AnswerPiece, Exchange
from mlx_llava.errors import UsageError
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
    """Places of images that the model does not get."""
    parent: "Node | None" = field(default=None, repr=False)
    children: list["Node"] = field(default_factory=list, repr=False)
    path_child: int = 0
    """Index of the child that is on the path."""
    key: int | None = None
    """Key in the history, once saved."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Model, times and token counts of an answer."""
    tokens: list[AnswerPiece] = field(default_factory=list)
    """The answer token by token, if alternatives were requested."""

    @property
    def active_images(self) -> tuple[Attachment, ...]:
        """The images that the model gets."""
        return tuple(image for n, image in enumerate(self.images) if n not in self.off)

    @property
    def place(self) -> tuple[int, int]:
        """Number of this branch among its siblings, from 1, and how many there are."""
        siblings = self.parent.children if self.parent else []
        return (siblings.index(self) + 1, len(siblings)) if self in siblings else (1, 1)  # removed, or the root


@dataclass(frozen=True)
class NumberedImage:
    """An image of a conversation by its number, from 1."""

    number: int
    node: Node
    place: int

    @property
    def image(self) -> Attachment:
        return self.node.images[self.place]

    @property
    def on(self) -> bool:
        """Whether the model gets it."""
        return self.place not in self.node.off

    def switch(self) -> None:
        """Hide it from the model, or show it again."""
        self.node.off ^= {self.place}


class Conversation:
    """A tree of questions and answers, and the path through it."""

    def __init__(self) -> None:
        self.root = Node("assistant")

    def path(self) -> list[Node]:
        """Return the nodes on the path, from the first question on."""
        path, node = list[Node](), self.root
        while node.children:
            node = node.children[node.path_child]
            path.append(node)
        return path

    @property
    def tip(self) -> Node:
        """The last node on the path; the root if the path is empty."""
        path = self.path()
        return path[-1] if path else self.root

    @property
    def questions(self) -> list[Node]:
        return [node for node in self.path() if node.role == "user"]

    @property
    def answers(self) -> list[Node]:
        return [node for node in self.path() if node.role == "assistant"]

    @property
    def answer_with_tokens(self) -> Node:
        """The last answer that has its tokens and their alternatives; UsageError if there is none."""
        answers = [node for node in self.answers if any(piece.token for piece in node.tokens)]
        if not answers:
            raise UsageError("no answer has alternatives", "/set alternatives on, then /again.")
        return answers[-1]

    def images(self, draft: Node, before: Node | None = None) -> list[NumberedImage]:
        """Number the images on the path, up to the question `before`, and those of a draft after them."""
        questions = self.questions
        nodes = [*(questions[: questions.index(before)] if before in questions else questions), draft]
        places = [(node, place) for node in nodes for place in range(len(node.images))]
        return [NumberedImage(n, *place) for n, place in enumerate(places, 1)]

    def add(self, node: Node, parent: Node | None = None) -> Node:
        """Add a node after `parent`, or after the tip, and lead the path through it."""
        node.parent = parent or self.tip
        node.parent.children.append(node)
        node.parent.path_child = len(node.parent.children) - 1
        return node

    def remove(self, node: Node) -> None:
        """Remove a node; the path returns to a sibling."""
        if node.parent is not None:
            node.parent.children.remove(node)
            node.parent.path_child = max(len(node.parent.children) - 1, 0)

    def choose(self, node: Node, step: int) -> bool:
        """Lead the path through another branch next to `node`; returns whether there is one."""
        parent = node.parent
        if parent is None or len(parent.children) < 2:
            return False
        parent.path_child = (parent.children.index(node) + step) % len(parent.children)
        return True

    def copy_with(self, image: NumberedImage, replacement: Attachment) -> list[Node]:
        """Copy the path from an image's question to the last question as a branch, with another image in its place."""
        path = self.path()[:-1]
        if image.node not in path:
            raise UsageError("that picture is no longer in this chat", "Open its chat, or show its branch.")
        copies, parent = list[Node](), image.node.parent
        for node in path[path.index(image.node) :]:
            images = list(node.images)
            if node is image.node:
                images[image.place] = replacement
            copy = Node(node.role, node.text, tuple(images), set(node.off), facts=dict(node.facts))
            parent = self.add(copy, parent)
            copies.append(copy)
        return copies

    def forget_keys(self) -> None:
        """Cut the connection to the history."""
        nodes = [self.root]
        while nodes:
            node = nodes.pop()
            node.key = None
            nodes += node.children

    def exchanges(self, upto: Node) -> tuple[Exchange, ...]:
        """Return the conversation up to the question `upto`, as the model gets it.

        A question without an answer is left out; its images go to the next one.
        """
        exchanges, files = [], ()
        for question in ancestors(upto):
            if question.role != "user":
                continue
            files = (*files, *(image.file for image in question.active_images))
            answer = None if question is upto else answer_on_path(question, upto)
            if question is upto or answer:
                exchanges.append(Exchange(question.text, files, answer))
                files = ()
        return tuple(exchanges)


def ancestors(node: Node) -> Sequence[Node]:
    """Return the nodes from the first question to `node`."""
    line = []
    while node.parent is not None:
        line.append(node)
        node = node.parent
    return line[::-1]


def answer_on_path(question: Node, upto: Node) -> str | None:
    """Return the answer to `question` on the way to `upto`."""
    return next((n.text for n in ancestors(upto) if n.parent is question and n.role == "assistant"), None)


def code_blocks(text: str) -> list[str]:
    """Return the contents of fenced code blocks."""
    return [match[2] for match in CODE.finditer(f"{text}\n")]
