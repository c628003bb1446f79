"""All chats, saved as they happen: each a tree of messages with one current path through it.

When a method returns, its change is on disk: a crash loses at most the answer that is being generated. Several windows
may write at once. Safe to use from any thread.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_llava.tui.history.database import FILE, HistoryError, history_errors, open_database, without_surrogates
from mlx_llava.tui.history.image_copies import ImageCopies, SavedImage, to_row
from mlx_llava.tui.history.queries import (
    ChatInfo,
    Role,
    SavedChat,
    SearchHit,
    chat_infos,
    load_chat,
    load_info,
    search_chats,
)

MAX_TITLE = 80  # characters of a title taken from a question


class History:
    """The chats in a folder; without a folder they are in memory and end with the program.

    `notice` is a message for the user about opening it, mostly empty.
    """

    def __init__(self, folder: Path | None, clock: Callable[[], float] = time.time) -> None:
        self.file = folder / FILE if folder else None
        self._connection, self.notice = open_database(folder)
        self._copies = ImageCopies(folder / "pictures" if folder else None)
        self._clock = clock
        self._lock = threading.RLock()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def begin(self, model: str, settings: Mapping[str, Any], title: str = "") -> int:
        """Add a chat and return its key. Without a title its first question becomes the title."""
        now = self._clock()
        with self._transaction() as connection:
            row = (without_surrogates(title), without_surrogates(model), _json(settings), now, now)
            insert = "INSERT INTO chat(title, model, settings, created, updated) VALUES (?, ?, ?, ?, ?)"
            cursor = connection.execute(insert, row)
            return cursor.lastrowid or 0

    def add(
        self,
        chat: int,
        role: Role,
        text: str,
        parent: int | None,
        images: Sequence[SavedImage] = (),
        facts: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a message after `parent`, make it the tip of the current path, and return its key."""
        now, text = self._clock(), without_surrogates(text)
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO message(chat, parent, role, text, facts, created) VALUES (?, ?, ?, ?, ?, ?)",
                (chat, parent, role, text, _json(facts), now),
            )
            key = cursor.lastrowid or 0
            for place, image in enumerate(images):
                self._copies.add(image)
                connection.execute("INSERT INTO picture VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (key, place, *to_row(image)))
            title = " ".join(text.split())[:MAX_TITLE]
            changed = connection.execute(
                "UPDATE chat SET tip = ?, updated = ?, title = coalesce(nullif(title, ''), ?) WHERE id = ?",
                (key, now, title, chat),
            )
            _must_exist(changed, chat)
        return key

    def revise(self, message: int, text: str, facts: Mapping[str, Any] | None = None, *, edited: bool = False) -> None:
        """Replace the text of a message: an answer that grew or ended, or the user's edit."""
        with self._transaction() as connection:
            connection.execute(
                "UPDATE message SET text = ?, edited = edited OR ?, facts = coalesce(?, facts) WHERE id = ?",
                (without_surrogates(text), edited, None if facts is None else _json(facts), message),
            )

    def set_tip(self, chat: int, tip: int) -> None:
        """Make the path to `tip` the current one."""
        self._change_chat(chat, "tip = ?", tip)

    def set_image_off(self, message: int, place: int, *, off: bool) -> None:
        """Hide an image of a message from the model, or show it again."""
        with self._transaction() as connection:
            connection.execute("UPDATE picture SET off = ? WHERE message = ? AND place = ?", (off, message, place))

    def rename(self, chat: int, title: str) -> None:
        self._change_chat(chat, "title = ?", without_surrogates(" ".join(title.split())))

    def pin(self, chat: int, *, pinned: bool) -> None:
        """List a chat first, or no longer."""
        self._change_chat(chat, "pinned = ?", pinned)

    def delete(self, chat: int) -> None:
        """Delete a chat, and the copies of images that no other chat has."""
        with self._transaction() as connection:
            digests = _delete_messages(connection, chat)
            _must_exist(connection.execute("DELETE FROM chat WHERE id = ?", (chat,)), chat)
        self._delete_copies(digests)
        with self._reading() as connection:  # or the -wal file would still hold the text
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def load(self, chat: int) -> SavedChat:
        """A chat with all its branches; HistoryError if there is none."""
        with self._reading() as connection:
            return load_chat(connection, chat)

    def info(self, chat: int) -> ChatInfo:
        """A chat without its messages; HistoryError if there is none."""
        with self._reading() as connection:
            return load_info(connection, chat)

    def read_image(self, image: SavedImage) -> bytes:
        """The content of an image file; ImageError if it is missing or has changed."""
        return self._copies.read(image)

    def chats(self, limit: int = 50, offset: int = 0) -> list[ChatInfo]:
        """Chats, pinned ones first, then by last use."""
        with self._reading() as connection:
            rest = "ORDER BY pinned DESC, updated DESC, id DESC LIMIT ? OFFSET ?"
            return chat_infos(connection, rest, (limit, offset))

    def last(self) -> ChatInfo | None:
        """The chat used last; None in an empty history."""
        with self._reading() as connection:
            return next(iter(chat_infos(connection, "ORDER BY updated DESC, id DESC LIMIT 1", ())), None)

    def search(self, text: str, limit: int = 50) -> list[SearchHit]:
        """Titles and messages that contain every word of `text`, also inside longer words."""
        with self._reading() as connection:
            return search_chats(connection, text, limit)

    def _change_chat(self, chat: int, columns: str, *values: Any) -> None:
        with self._transaction() as connection:
            _must_exist(connection.execute(f"UPDATE chat SET {columns} WHERE id = ?", (*values, chat)), chat)

    def _delete_copies(self, digests: set[str]) -> None:
        """Delete the copies that no message refers to; the transaction keeps others from adding one meanwhile."""
        with self._transaction() as connection:
            users = "SELECT 1 FROM picture WHERE digest = ?"
            self._copies.delete(d for d in digests if not connection.execute(users, (d,)).fetchone())

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock, history_errors(self.file):
            yield self._connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Commit everything or nothing; other windows wait."""
        with self._reading() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise


def _delete_messages(connection: sqlite3.Connection, chat: int) -> set[str]:
    """Delete the messages of a chat and return the digests of their images."""
    messages = "message IN (SELECT id FROM message WHERE chat = ?)"
    digests = {row[0] for row in connection.execute(f"SELECT digest FROM picture WHERE {messages}", (chat,))}
    connection.execute(f"DELETE FROM picture WHERE {messages}", (chat,))
    connection.execute("DELETE FROM message WHERE chat = ?", (chat,))
    return digests


def _must_exist(cursor: sqlite3.Cursor, chat: int) -> None:
    if not cursor.rowcount:
        raise HistoryError(f"chat {chat} was deleted, perhaps in another window", "Start a new chat.")


def _json(facts: Mapping[str, Any] | None) -> str:
    return json.dumps(dict(facts or {}))
