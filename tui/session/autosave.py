"""Saves a conversation to the history while it happens.

Problems with the history are reported and never stop a chat.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mlx_llava.errors import ImageError, LlavaError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import ChatInfo, SavedChat
from mlx_llava.tui.images.attachments import Attachment, from_bytes, missing_image
from mlx_llava.tui.session.conversation import Conversation, Node, NumberedImage, ancestors

Description = tuple[str, Mapping[str, Any]]  # model and settings


class Record:
    """Saves one conversation at a time."""

    def __init__(self, history: History, describe: Callable[[], Description] = lambda: ("", {})) -> None:
        self.history = history
        self.describe = describe
        self.chat: int | None = None
        """Key of the chat, from its first question on."""
        self.title = ""
        """Title in the history; empty for a new chat, which is named after its first question."""
        self.incognito = history.file is None
        self.trouble: list[str] = [history.notice] if history.notice else []

    def take_trouble(self) -> list[str]:
        """Return the problems since the last call, for the user."""
        trouble, self.trouble = self.trouble, []
        return trouble

    def new(self) -> None:
        self.chat, self.title = None, ""

    def hide(self) -> None:
        """Save nothing from now on; what this chat has saved stays."""
        self.history, self.chat, self.incognito = History(None), None, True

    def add(self, node: Node) -> None:
        """Save a question or an answer; a question starts a chat if there is none."""
        with self._guarded():
            if self.chat is None and node.role == "user":
                self.chat = self.history.begin(*self.describe())
                for earlier in ancestors(node)[:-1]:
                    self._add(self.chat, earlier)
            if self.chat is not None:
                self._add(self.chat, node)

    def save_correction(self, node: Node) -> None:
        """Save an answer that the user changed."""
        with self._guarded():
            if node.key is not None:
                self.history.revise(node.key, node.text, node.facts, edited=True)

    def show(self, tip: Node) -> None:
        """Save where the path ends."""
        with self._guarded():
            if self.chat is not None and tip.key is not None:
                self.history.set_tip(self.chat, tip.key)

    def switch(self, image: NumberedImage) -> None:
        """Save whether an image is on."""
        with self._guarded():
            if image.node.key is not None:
                self.history.set_image_off(image.node.key, image.place, off=not image.on)

    def open(self, chat: int) -> Conversation:
        """Load a chat from the history. Slow: call it on a thread. `resume` makes it the current one."""
        return rebuild(self.history.load(chat), self.history)

    def resume(self, chat: int) -> None:
        """Continue an opened chat."""
        self.chat = chat
        self.reload_title()

    def reload_title(self) -> None:
        """Read the title again, in case it changed."""
        with suppress(LlavaError):
            self.title = self.history.info(self.chat).title if self.chat else ""

    def info(self) -> ChatInfo:
        """Return the current chat; LlavaError if nothing was saved yet."""
        if self.chat is None:
            raise LlavaError("this chat is not in the history", "Ask something first.")
        return self.history.info(self.chat)

    def _add(self, chat: int, node: Node) -> None:
        parent = node.parent.key if node.parent else None
        images = [to_saved(image, n in node.off) for n, image in enumerate(node.images)]
        node.key = self.history.add(chat, node.role, node.text, parent, images, node.facts)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except LlavaError as error:
            self.trouble.append(f"not saved: {error.problem} — {error.advice}")


def to_saved(image: Attachment, off: bool) -> SavedImage:
    """Convert an image to its form in the history."""
    file = image.file
    return SavedImage(file.name, file.digest, image.size, image.origin, off, file.data or None)


def rebuild(chat: SavedChat, history: History) -> Conversation:
    """Rebuild the conversation of a saved chat."""
    conversation = Conversation()
    nodes: dict[int, Node] = {}
    for key, message in chat.messages.items():
        parent = nodes.get(message.parent or -1, conversation.root)
        node = Node(message.role, message.text, key=key, facts=message.facts)
        node.images = tuple(_attachment(image, history) for image in message.images)
        node.off = {n for n, p in enumerate(message.images) if p.off or not node.images[n].file.data}
        nodes[key] = conversation.add(node, parent)
    for message in chat.path():
        node = nodes[message.key]
        if node.parent:
            node.parent.path_child = node.parent.children.index(node)
    return conversation


def _attachment(image: SavedImage, history: History) -> Attachment:
    try:
        return from_bytes(history.read_image(image), image.name, image.origin)
    except ImageError:
        return missing_image(image.name, image.digest, image.size, image.origin)
