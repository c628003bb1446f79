"""Every chat, saved as it happens: a tree of messages, and the path through it that is shown.

What is written is on the disk when a method returns, so that the end of a program, however sudden, costs the answer
under way at most. Several windows may write at once. May be used from any thread.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_llava.tui.history.database import FILE, HistoryError, explained, open_database, whole
from mlx_llava.tui.history.image_copies import Keepsakes, SavedImage, to_row
from mlx_llava.tui.history.queries import (
    ChatInfo,
    Found,
    Role,
    SavedChat,
    chat_infos,
    load_chat,
    load_info,
    search_chats,
)

TITLE = 80  # characters of a title that is made of a question


class History:
    """The chats of a folder, or of this run alone where there is no folder.

    `notice` is what a person should be told of it, if anything.
    """

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
        """A new chat, called after its first question unless it has a title; its key."""
        now = self._clock()
        with self._transaction() as connection:
            row = (whole(title), whole(model), _json(settings), now, now)
            done = connection.execute(
                "INSERT INTO chat(title, model, settings, created, updated) VALUES (?, ?, ?, ?, ?)", row
            )
            return done.lastrowid or 0

    def add(
        self,
        chat: int,
        role: Role,
        text: str,
        parent: int | None,
        images: Sequence[SavedImage] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Put a message behind another, and lead the shown path to it; its key."""
        now, text = self._clock(), whole(text)
        with self._transaction() as connection:
            done = connection.execute(
                "INSERT INTO message(chat, parent, role, text, facts, created) VALUES (?, ?, ?, ?, ?, ?)",
                (chat, parent, role, text, _json(facts), now),
            )
            key = done.lastrowid or 0
            for place, image in enumerate(images):
                self._keepsakes.keep(image)
                connection.execute("INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, place, *to_row(image)))
            title = " ".join(text.split())[:TITLE]
            changed = connection.execute(
                "UPDATE chat SET tip = ?, updated = ?, title = coalesce(nullif(title, ''), ?) WHERE id = ?",
                (key, now, title, chat),
            )
            _must_exist(changed, chat)
        return key

    def revise(self, message: int, text: str, facts: Mapping[str, Any] | None = None, *, edited: bool = False) -> None:
        """Save an answer as far as it got, its end, or what a person made of it."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE message SET text = ?, edited = edited OR ?, facts = coalesce(?, facts) WHERE id = ?",
                (whole(text), edited, None if facts is None else _json(facts), message),
            )

    def drop(self, message: int) -> None:
        """Delete a message that nothing follows, and lead the shown path to what stood before it."""
        with self._transaction() as connection:
            if connection.execute("SELECT 1 FROM message WHERE parent = ?", (message,)).fetchone():
                raise HistoryError("something follows this message", "Delete what follows first.")
            connection.execute(
                "UPDATE chat SET tip = (SELECT parent FROM message WHERE id = ?) WHERE tip = ?", (message, message)
            )
            digests = _delete_messages(connection, "id = ?", message)
        self._forget(digests)

    def show(self, chat: int, tip: int | None) -> None:
        """Lead the shown path of a chat to another message."""
        self._change_chat(chat, "tip = ?", tip)

    def switch(self, message: int, place: int, *, off: bool) -> None:
        """Hide a picture of a message from the model, or show it again."""
        with self._transaction() as connection:
            connection.execute("UPDATE picture SET off = ? WHERE message = ? AND place = ?", (off, message, place))

    def describe(self, chat: int, model: str, settings: Mapping[str, Any]) -> None:
        """Another model, or other settings, from now on."""
        self._change_chat(chat, "model = ?, settings = ?", whole(model), _json(settings))

    def rename(self, chat: int, title: str) -> None:
        """Give a chat another title."""
        self._change_chat(chat, "title = ?", whole(" ".join(title.split())))

    def pin(self, chat: int, *, pinned: bool) -> None:
        """Keep a chat at the head of the list, or not."""
        self._change_chat(chat, "pinned = ?", pinned)

    def delete(self, chat: int) -> None:
        """Delete a chat, and the copies of pictures that no other chat shows."""
        with self._transaction() as connection:
            digests = _delete_messages(connection, "chat = ?", chat)
            _must_exist(connection.execute("DELETE FROM chat WHERE id = ?", (chat,)), chat)
        self._forget(digests)
        with self._reading() as connection:  # or the text would still stand in the file
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def load(self, chat: int) -> SavedChat:
        """A chat with all its branches; HistoryError where there is none."""
        with self._reading() as connection:
            return load_chat(connection, chat)

    def info(self, chat: int) -> ChatInfo:
        """A chat without what was said in it; HistoryError where there is none."""
        with self._reading() as connection:
            return load_info(connection, chat)

    def image(self, image: SavedImage) -> bytes:
        """The file of a picture; ImageError that says where it was, and that it is gone or another one now."""
        return self._keepsakes.find(image)

    def chats(self, limit: int = 50, offset: int = 0) -> list[ChatInfo]:
        """Chats: pinned ones first, then those used last."""
        with self._reading() as connection:
            rest = "ORDER BY pinned DESC, updated DESC, id DESC LIMIT ? OFFSET ?"
            return chat_infos(connection, rest, (limit, offset))

    def last(self) -> ChatInfo | None:
        """The chat that was used last."""
        with self._reading() as connection:
            return next(iter(chat_infos(connection, "ORDER BY updated DESC, id DESC LIMIT 1", ())), None)

    def search(self, text: str, limit: int = 50) -> list[Found]:
        """Titles and messages in which every word of `text` occurs, as a part of a word too."""
        with self._reading() as connection:
            return search_chats(connection, text, limit)

    def _change_chat(self, chat: int, columns: str, *values: Any) -> None:
        with self._transaction() as connection:
            _must_exist(connection.execute(f"UPDATE chat SET {columns} WHERE id = ?", (*values, chat)), chat)

    def _forget(self, digests: set[str]) -> None:
        """Delete the copies that no message shows; nobody can add one meanwhile."""
        with self._transaction() as connection:
            shown = "SELECT 1 FROM picture WHERE digest = ?"
            self._keepsakes.forget(d for d in digests if not connection.execute(shown, (d,)).fetchone())

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, explained(self.file):
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """All of it is written, or nothing; other windows wait."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _delete_messages(connection: sqlite3.Connection, which: str, key: int) -> set[str]:
    """Delete messages; the digests of the pictures they showed."""
    chosen = f"message IN (SELECT id FROM message WHERE {which})"
    digests = {row[0] for row in connection.execute(f"SELECT digest FROM picture WHERE {chosen}", (key,))}
    connection.execute(f"DELETE FROM picture WHERE {chosen}", (key,))
    connection.execute(f"DELETE FROM message WHERE {which}", (key,))
    return digests


def _must_exist(done: sqlite3.Cursor, chat: int) -> None:
    if not done.rowcount:
        raise HistoryError(f"chat {chat} was deleted, perhaps in another window", "Go on in a new chat.")


def _json(facts: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(facts or {}))
