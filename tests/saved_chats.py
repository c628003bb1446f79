"""Chats and images for tests of the history."""

from hashlib import sha256

from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.image_copies import SavedImage


def talk(history: History, *texts: str, title: str = "") -> int:
    """A saved chat of alternating questions and answers; its key."""
    chat, parent = history.begin("embedded", {"seed": 1}, title), None
    for number, text in enumerate(texts):
        parent = history.add(chat, "assistant" if number % 2 else "user", text, parent)
    return chat


def saved_image(data: bytes, name: str = "cat.png", origin: str = "") -> SavedImage:
    """An image that is new to the history."""
    return SavedImage(name, sha256(data).hexdigest(), (3, 2), origin, data=data)
