"""The bridge between a conversation and the history: what happens is saved as it happens.

Trouble with the history is told and never stops a chat.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from mlx_llava.errors import ImageError, LlavaError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import ChatInfo, SavedChat
from mlx_llava.tui.images.attachments import Attachment, attachment, gone
from mlx_llava.tui.session.conversation import Conversation, Node, ancestors

Description = tuple[str, Mapping[str, Any]]  # model and settings


class Record:
    """Saves one conversation at a time."""

    def __init__(self, history: History, describe: Callable[[], Description] = lambda: ("", {})) -> None:
        self.history = history
        self.describe = describe
        self.chat: int | None = None
        """Key of the chat, once something was asked."""
        self.title = ""
        """What the chat is called in the history; empty for a new one, which its first question names."""
        self.incognito = history.file is None
        self.trouble: list[str] = [history.notice] if history.notice else []

    def take_trouble(self) -> list[str]:
        """What a person should be told, once."""
        trouble, self.trouble = self.trouble, []
        return trouble

    def new(self) -> None:
        """Another conversation begins."""
        self.chat, self.title = None, ""

    def hide(self) -> None:
        """From now on keep nothing; what was saved of this chat stays as it is."""
        self.history, self.chat, self.incognito = History(None), None, True

    def question(self, node: Node) -> None:
        """A question was asked."""
        with self._guarded():
            if self.chat is None:
                self.chat = self.history.begin(*self.describe())
                for earlier in ancestors(node)[:-1]:
                    self._add(self.chat, earlier)
            self._add(self.chat, node)

    def answer(self, node: Node) -> None:
        """An answer ended."""
        with self._guarded():
            if self.chat is not None:
                self._add(self.chat, node)

    def corrected(self, node: Node) -> None:
        """A person changed an answer."""
        with self._guarded():
            if node.key is not None:
                self.history.revise(node.key, node.text, node.facts, edited=True)

    def shown(self, tip: Node) -> None:
        """The path leads elsewhere."""
        with self._guarded():
            if self.chat is not None and tip.key is not None:
                self.history.set_tip(self.chat, tip.key)

    def switched(self, node: Node, place: int) -> None:
        """A picture was hidden or shown."""
        with self._guarded():
            if node.key is not None:
                self.history.set_image_off(node.key, place, off=place in node.off)

    def open(self, chat: int) -> Conversation:
        """A chat from the history; may take a while, and belongs on a thread. Nothing is changed until `resume`."""
        return rebuild(self.history.load(chat), self.history)

    def resume(self, chat: int) -> None:
        """Go on in a chat that was opened."""
        self.chat = chat
        self.see_title()

    def see_title(self) -> None:
        """The title may be another now."""
        with suppress(LlavaError):
            self.title = self.history.info(self.chat).title if self.chat else ""

    def info(self) -> ChatInfo:
        """The chat that is on; LlavaError where nothing was saved yet."""
        if self.chat is None:
            raise LlavaError("this chat is not in the history", "Ask something first.")
        return self.history.info(self.chat)

    def _add(self, chat: int, node: Node) -> None:
        parent = node.parent.key if node.parent else None
        images = [saved(image, n in node.off) for n, image in enumerate(node.images)]
        node.key = self.history.add(chat, node.role, node.text, parent, images, node.facts)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except LlavaError as error:
            self.trouble.append(f"not saved: {error.problem} — {error.advice}")


def saved(image: Attachment, off: bool) -> SavedImage:
    """A picture as the history keeps it."""
    file = image.file
    return SavedImage(file.name, file.digest, image.size, image.origin, off, file.data or None)


def rebuild(chat: SavedChat, history: History) -> Conversation:
    """The conversation that a saved chat was."""
    conversation = Conversation()
    nodes: dict[int, Node] = {}
    for key, message in chat.messages.items():
        parent = nodes.get(message.parent or -1, conversation.root)
        node = Node(message.role, message.text, key=key, facts=message.facts)
        found = [_found(image, history) for image in message.images]
        node.images = tuple(found)
        node.off = {n for n, p in enumerate(message.images) if p.off or not found[n].file.data}
        nodes[key] = conversation.add(node, parent)
    for message in chat.path():
        node = nodes[message.key]
        if node.parent:
            node.parent.chosen = node.parent.children.index(node)
    return conversation


def _found(image: SavedImage, history: History) -> Attachment:
    try:
        return attachment(history.read_image(image), image.name, image.origin)
    except ImageError:
        return gone(image.name, image.digest, image.size, image.origin)
