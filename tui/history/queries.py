"""Read the history: lists of chats, whole trees of messages, and search results."""

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlx_llava.tui.history.database import HistoryError, without_surrogates
from mlx_llava.tui.history.image_copies import SavedImage, from_row

Role = Literal["user", "assistant"]
EXCERPT = 40  # characters before a hit; twice as many from it on
MIN_INDEXED = 3  # letters: the index holds trigrams


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
    """The last message of the current path."""
    num_messages: int


@dataclass(frozen=True)
class SavedMessage:
    """A question or an answer."""

    key: int
    parent: int | None
    role: Role
    text: str
    facts: dict[str, Any]
    """Settings, times, and why the answer ended."""
    created: float
    edited: bool = False
    """Whether the user changed this answer."""
    images: tuple[SavedImage, ...] = ()


@dataclass(frozen=True)
class SavedChat:
    """A chat with all its branches."""

    info: ChatInfo
    messages: Mapping[int, SavedMessage]
    """By key, parents before children."""

    def path(self) -> list[SavedMessage]:
        """The current path, from its first question to the tip; a cycle in a damaged tree ends it."""
        path, key = dict[int, SavedMessage](), self.info.tip
        while key is not None and key in self.messages and key not in path:
            path[key] = self.messages[key]
            key = path[key].parent
        return list(path.values())[::-1]


@dataclass(frozen=True)
class SearchHit:
    """A message, or the title of a chat, with all the words of a search."""

    chat: ChatInfo
    message: int | None
    """None for a title."""
    excerpt: str


def chat_infos(connection: sqlite3.Connection, clauses: str, values: Sequence[Any]) -> list[ChatInfo]:
    """Chats selected by WHERE, ORDER BY and LIMIT clauses."""
    columns = "id, title, model, settings, created, updated, pinned, tip"
    count = "(SELECT count(*) FROM message WHERE message.chat = chat.id)"
    rows = connection.execute(f"SELECT {columns}, {count} FROM chat {clauses}", values)
    return [
        ChatInfo(key, title, model, _facts(settings), created, updated, bool(pinned), tip, number)
        for key, title, model, settings, created, updated, pinned, tip, number in rows
    ]


def load_info(connection: sqlite3.Connection, chat: int) -> ChatInfo:
    """A chat without its messages; HistoryError if there is none."""
    infos = chat_infos(connection, "WHERE id = ?", (chat,)) if chat < 1 << 63 else []  # SQLite's integers have 64 bits
    if not infos:
        raise HistoryError(f"there is no chat {chat}", "/history lists them.")
    return infos[0]


def load_chat(connection: sqlite3.Connection, chat: int) -> SavedChat:
    """A chat with all its branches; HistoryError if there is none."""
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


def search_chats(connection: sqlite3.Connection, text: str, limit: int) -> list[SearchHit]:
    """Titles, then messages, that contain every word of `text`; newest first."""
    words = without_surrogates(text).replace("\0", " ").split()
    if not words:
        return []
    like = " AND ".join(["title LIKE ? ESCAPE '^'"] * len(words))
    titles = chat_infos(connection, f"WHERE {like} ORDER BY updated DESC LIMIT ?", (*map(_pattern, words), limit))
    hits = [
        SearchHit(info, key, _excerpt(content, words))
        for key, chat, content in _search_messages(connection, words, limit)
        for info in chat_infos(connection, "WHERE id = ?", (chat,))
    ]
    listed = {hit.chat.key for hit in hits}  # a title is mostly the beginning of a question
    return [*(SearchHit(info, None, info.title) for info in titles if info.key not in listed), *hits][:limit]


def _search_messages(connection: sqlite3.Connection, words: Sequence[str], limit: int) -> list[tuple[int, int, str]]:
    """Key, chat and text of messages with every word; words too short for the index are matched by LIKE."""
    indexed = " ".join('"{}"'.format(word.replace('"', '""')) for word in words if len(word) >= MIN_INDEXED)
    short = [_pattern(word) for word in words if len(word) < MIN_INDEXED]
    where = ["id IN (SELECT rowid FROM words WHERE words MATCH ?)"] if indexed else []
    where += ["text LIKE ? ESCAPE '^'"] * len(short)
    query = f"SELECT id, chat, text FROM message WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?"
    return connection.execute(query, (*([indexed] if indexed else []), *short, limit)).fetchall()


def _pattern(word: str) -> str:
    """A LIKE pattern that matches a word anywhere; `^` escapes."""
    return "%" + re.sub("([%_^])", r"^\1", word) + "%"


def _excerpt(text: str, words: Sequence[str]) -> str:
    """The text around the first hit, on one line."""
    lower = text.lower()
    at = min((place for word in words if (place := lower.find(word.lower())) >= 0), default=0)
    start, end = max(at - EXCERPT, 0), at + 2 * EXCERPT
    line = " ".join(text[start:end].split())
    return f"{'…' if start else ''}{line}{'…' if end < len(text) else ''}"


def _facts(text: str) -> dict[str, Any]:
    """An object saved as JSON; empty if it cannot be read."""
    try:
        facts = json.loads(text)
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
