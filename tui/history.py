"""Every chat, saved as it happens: a tree of messages, and the path through it that is shown.

What is written is on the disk when a method returns, so that the end of a program, however sudden, costs the answer
under way at most. Several windows may write at once. May be used from any thread.
"""

import json
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlx_llava.tui.database import FILE, HistoryError, explained, open_database
from mlx_llava.tui.keepsakes import Keepsakes, SavedPicture

Role = Literal["user", "assistant"]
AROUND = 40  # characters of an excerpt on each side of what was searched
TITLE = 80  # characters of a title that is made of a question
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")


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
    edited: bool
    """Whether a person changed an answer."""
    pictures: tuple[SavedPicture, ...] = ()


@dataclass(frozen=True)
class SavedChat:
    """A chat with all its branches."""

    info: ChatInfo
    messages: dict[int, SavedMessage]
    """By key, parents before children."""

    def path(self) -> list[SavedMessage]:
        """What is shown, from the first question on."""
        line, key = list[SavedMessage](), self.info.tip
        while key is not None and (message := self.messages.get(key)) is not None and message not in line:
            line.append(message)
            key = message.parent
        return line[::-1]


@dataclass(frozen=True)
class Found:
    """Where a search found something."""

    chat: ChatInfo
    message: int | None
    """None where the title is what was found."""
    excerpt: str


class History:
    """The chats of a folder, or of this run alone where there is no folder."""

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.file = folder / FILE if folder else None
        self._connection, self.notice = open_database(folder)
        self._keepsakes = Keepsakes(folder / "pictures" if folder else None)
        self._clock = clock
        self._lock = threading.RLock()

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._connection.close()

    def begin(self, model: str, settings: Mapping[str, Any], title: str = "") -> int:
        """A new chat; its key."""
        now = self._clock()
        row = (_whole(title), _whole(model), json.dumps(dict(settings)), now, now)
        return self._write("INSERT INTO chat(title, model, settings, created, updated) VALUES (?, ?, ?, ?, ?)", row)

    def add(  # noqa: PLR0913 - a message is what it is
        self,
        chat: int,
        role: Role,
        text: str,
        *,
        parent: int | None,
        pictures: Sequence[SavedPicture] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a message behind another, and the shown path to it; its key."""
        row = (chat, parent, role, _whole(text), json.dumps(dict(facts or {})), self._clock())
        with self._transaction():
            key = self._write(
                "INSERT INTO message(chat, parent, role, text, facts, created) VALUES (?, ?, ?, ?, ?, ?)", row
            )
            for place, picture in enumerate(pictures):
                self._keepsakes.keep(picture)
                self._write("INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, place, *_columns(picture)))
            self._touch(chat, key)
            title = _whole(" ".join(text.split()))[:TITLE]
            self._write("UPDATE chat SET title = ? WHERE id = ? AND title = ''", (title, chat))
        return key

    def revise(self, message: int, text: str, facts: Mapping[str, Any] | None = None, *, edited: bool = False) -> None:
        """Save an answer as far as it got, its end, or what a person made of it."""
        with self._transaction():
            self._write("UPDATE message SET text = ?, edited = edited OR ? WHERE id = ?", (_whole(text), edited, message))
            if facts is not None:
                self._write("UPDATE message SET facts = ? WHERE id = ?", (json.dumps(dict(facts)), message))

    def drop(self, message: int) -> None:
        """Delete a message that nothing follows, and lead the shown path to what stood before it."""
        with self._transaction():
            if self._rows("SELECT 1 FROM message WHERE parent = ?", (message,)):
                return
            self._write(
                "UPDATE chat SET tip = (SELECT parent FROM message WHERE id = ?) WHERE tip = ?", (message, message)
            )
            self._delete("id = ?", message)

    def show(self, chat: int, tip: int | None) -> None:
        """Lead the shown path of a chat to another message."""
        self._write("UPDATE chat SET tip = ? WHERE id = ?", (tip, chat))

    def switch(self, message: int, place: int, *, off: bool) -> None:
        """Show a picture of a message to the model, or not."""
        self._write("UPDATE picture SET off = ? WHERE message = ? AND place = ?", (off, message, place))

    def describe(self, chat: int, model: str, settings: Mapping[str, Any]) -> None:
        """Another model, or other settings, from now on."""
        self._write("UPDATE chat SET model = ?, settings = ? WHERE id = ?", (model, json.dumps(dict(settings)), chat))

    def rename(self, chat: int, title: str) -> None:
        """Give a chat another title."""
        self._write("UPDATE chat SET title = ? WHERE id = ?", (_whole(" ".join(title.split())), chat))

    def pin(self, chat: int, *, pinned: bool) -> None:
        """Keep a chat at the head of the list, or not."""
        self._write("UPDATE chat SET pinned = ? WHERE id = ?", (pinned, chat))

    def delete(self, chat: int) -> None:
        """Delete a chat, and the copies of pictures that no other chat shows."""
        with self._transaction():
            self._delete("chat = ?", chat)
            self._write("DELETE FROM chat WHERE id = ?", (chat,))
        with self._lock, explained(self.file):
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # or the text would still stand there

    def load(self, chat: int) -> SavedChat:
        """A chat with all its branches."""
        infos = self._infos("WHERE chat.id = ?", (chat,))
        if not infos:
            raise HistoryError(f"there is no chat {chat}", "See the list of chats.")
        pictures = dict[int, tuple[SavedPicture, ...]]()
        columns = "message, name, digest, width, height, origin, off"
        chosen = "SELECT id FROM message WHERE chat = ?"
        for message, *row in self._rows(
            f"SELECT {columns} FROM picture WHERE message IN ({chosen}) ORDER BY message, place", (chat,)
        ):
            pictures[message] = (*pictures.get(message, ()), _picture(*row))
        rows = self._rows(
            "SELECT id, parent, role, text, facts, created, edited FROM message WHERE chat = ? ORDER BY id", (chat,)
        )
        messages = {row[0]: _message(row, pictures.get(row[0], ())) for row in rows}
        return SavedChat(infos[0], messages)

    def picture(self, picture: SavedPicture) -> bytes:
        """The file of a picture; ImageError that says which one is gone."""
        with explained(None):
            return self._keepsakes.find(picture)

    def chats(self, limit: int = 50, offset: int = 0) -> list[ChatInfo]:
        """Chats, pinned ones first, then the last used."""
        return self._infos("ORDER BY pinned DESC, updated DESC, id DESC LIMIT ? OFFSET ?", (limit, offset))

    def last(self) -> ChatInfo | None:
        """The chat that was used last."""
        return next(iter(self._infos("ORDER BY updated DESC, id DESC LIMIT 1", ())), None)

    def search(self, text: str, limit: int = 50) -> list[Found]:
        """Titles and messages in which every word of `text` occurs, the newest first."""
        terms = _whole(text).replace("\0", " ").split()
        if not terms:
            return []
        like = [f"%{re.sub(r'([%_^])', r'^\1', term)}%" for term in terms]
        titled = self._infos(
            f"WHERE {' AND '.join(['title LIKE ? ESCAPE ?'] * len(like))} ORDER BY updated DESC LIMIT ?",
            (*(part for term in like for part in (term, "^")), limit),
        )
        found = [Found(info, None, info.title) for info in titled]
        for key, chat, said in self._said(terms, like, limit):
            found += [Found(info, key, _excerpt(said, terms)) for info in self._infos("WHERE chat.id = ?", (chat,))]
        return found[:limit]

    def _said(self, terms: Sequence[str], like: Sequence[str], limit: int) -> list[tuple[Any, ...]]:
        """Messages with every word; the index knows words of three letters or more, the others are looked for."""
        long = " ".join(f'"{term}"'.replace('"', '""')[1:-1] for term in terms if len(term) >= 3)
        short = [pattern for term, pattern in zip(terms, like, strict=True) if len(term) < 3]
        where = ["id IN (SELECT rowid FROM words WHERE words MATCH ?)"] if long else []
        where += ["text LIKE ? ESCAPE '^'"] * len(short)
        return self._rows(
            f"SELECT id, chat, text FROM message WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?",
            (*([long] if long else []), *short, limit),
        )
