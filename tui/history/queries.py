"""Chats as they are read from the history: lists, whole trees, and what a search finds."""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_llava.tui.history.database import HistoryError, whole
from mlx_llava.tui.history.image_copies import SavedImage, from_row

Role = Literal["user", "assistant"]
AROUND = 40  # characters of an excerpt on each side of what was searched
INDEXED = 3  # letters of the shortest word that the index knows


@dataclass(frozen=True)
class ChatInfo:
    """A chat in a list."""

    key: int
    title: str
    model: str
    settings: dict[str, Any]
    created: float
    updated: float
    pinned: bool
    tip: int | None
    """The last message of the path that is shown."""
    num_messages: int


@dataclass(frozen=True)
class SavedMessage:
    """A question or an answer."""

    key: int
    parent: int | None
    role: Role
    text: str
    facts: dict[str, Any]
    """What it took: settings, seconds, how it ended."""
    created: float
    edited: bool = False
    """Whether a person changed an answer."""
    images: tuple[SavedImage, ...] = ()


@dataclass(frozen=True)
class SavedChat:
    """A chat with all its branches."""

    info: ChatInfo
    messages: Mapping[int, SavedMessage]
    """By key, parents before children."""

    def path(self) -> list[SavedMessage]:
        """What is shown, from the first question on."""
        line, key = dict[int, SavedMessage](), self.info.tip
        while key is not None and key in self.messages and key not in line:
            line[key] = self.messages[key]
            key = line[key].parent
        return list(line.values())[::-1]


@dataclass(frozen=True)
class Found:
    """Where a search found something."""

    chat: ChatInfo
    message: int | None
    """None where the title is what was found."""
    excerpt: str


def chat_infos(connection: sqlite3.Connection, rest: str, values: Sequence[Any]) -> list[ChatInfo]:
    """Chats by the rest of a query."""
    columns = "id, title, model, settings, created, updated, pinned, tip"
    count = "(SELECT count(*) FROM message WHERE message.chat = chat.id)"
    rows = connection.execute(f"SELECT {columns}, {count} FROM chat {rest}", values)
    return [
        ChatInfo(key, title, model, _facts(settings), created, updated, bool(pinned), tip, number)
        for key, title, model, settings, created, updated, pinned, tip, number in rows
    ]


def load_info(connection: sqlite3.Connection, chat: int) -> ChatInfo:
    """What there is to know of a chat; HistoryError where there is none."""
    infos = chat_infos(connection, "WHERE id = ?", (chat,)) if chat < 1 << 63 else []  # SQLite's numbers end there
    if not infos:
        raise HistoryError(f"there is no chat {chat}", "/history lists them.")
    return infos[0]


def load_chat(connection: sqlite3.Connection, chat: int) -> SavedChat:
    """A chat with all its branches; HistoryError where there is none."""
    info = load_info(connection, chat)
    images = dict[int, tuple[SavedImage, ...]]()
    for message, *row in connection.execute(
        """SELECT message, name, digest, width, height, origin, off FROM picture
           WHERE message IN (SELECT id FROM message WHERE chat = ?) ORDER BY message, place""",
        (chat,),
    ):
        images[message] = (*images.get(message, ()), from_row(row))
    rows = connection.execute(
        "SELECT id, parent, role, text, facts, created, edited FROM message WHERE chat = ? ORDER BY id", (chat,)
    )
    return SavedChat(
        info,
        {
            key: SavedMessage(key, parent, role, text, _facts(facts), created, bool(edited), images.get(key, ()))
            for key, parent, role, text, facts, created, edited in rows
        },
    )


def search_chats(connection: sqlite3.Connection, text: str, limit: int) -> list[Found]:
    """Titles, then messages, in which every word of `text` occurs; the newest first."""
    words = whole(text).replace("\0", " ").split()
    if not words:
        return []
    like = " AND ".join(["title LIKE ? ESCAPE '^'"] * len(words))
    titled = chat_infos(connection, f"WHERE {like} ORDER BY updated DESC LIMIT ?", (*map(_pattern, words), limit))
    found = [
        Found(info, key, _excerpt(said, words))
        for key, chat, said in _said(connection, words, limit)
        for info in chat_infos(connection, "WHERE id = ?", (chat,))
    ]
    shown = {hit.chat.key for hit in found}  # a title is mostly the beginning of a question
    return [*(Found(info, None, info.title) for info in titled if info.key not in shown), *found][:limit]


def _said(connection: sqlite3.Connection, words: Sequence[str], limit: int) -> list[tuple[int, int, str]]:
    """Messages with every word; those that are too short for the index are looked for in the text."""
    indexed = " ".join('"{}"'.format(word.replace('"', '""')) for word in words if len(word) >= INDEXED)
    short = [_pattern(word) for word in words if len(word) < INDEXED]
    where = ["id IN (SELECT rowid FROM words WHERE words MATCH ?)"] if indexed else []
    where += ["text LIKE ? ESCAPE '^'"] * len(short)
    query = f"SELECT id, chat, text FROM message WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
    return connection.execute(query, (*([indexed] if indexed else []), *short, limit)).fetchall()


def _pattern(word: str) -> str:
    """What LIKE finds a word by."""
    return "%" + re.sub("([%_^])", r"^\1", word) + "%"


def _excerpt(text: str, words: Sequence[str]) -> str:
    """The text around the first of the words, on one line."""
    lower = text.lower()
    at = min((place for word in words if (place := lower.find(word.lower())) >= 0), default=0)
    start, end = max(at - AROUND, 0), at + 2 * AROUND
    shown = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{shown}{'…' if end < len(text) else ''}"


def _facts(text: str) -> dict[str, Any]:
    """An object that was saved as JSON; empty where it cannot be read."""
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
