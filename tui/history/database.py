"""The SQLite file of the chats: created, opened, migrated to the current version, and renamed if it is damaged.

Knows the tables but not what they are for. Only the owner can read the file.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mlx_llava.errors import LlavaError
from mlx_llava.tui.history.private_files import locked, private_folder, private_opener

FILE = "history.sqlite"
WAIT = 10.0  # seconds for another window to finish writing
_SURROGATES = re.compile("[\ud800-\udfff]")
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ADVICE = {
    sqlite3.SQLITE_FULL: "Free some space. Everything saved so far is safe.",
    sqlite3.SQLITE_BUSY: "Close other windows of mlx-llava and try again.",
    sqlite3.SQLITE_READONLY: "Check the permissions of the folder.",
    sqlite3.SQLITE_CANTOPEN: "Check the permissions of the folder.",
    **dict.fromkeys(_DAMAGE, "Start again. The damaged file is then renamed; nothing is deleted."),
}

# Step n migrates version n to n + 1. Never change a released step; add one.
STEPS: list[Sequence[str]] = [
    (
        """CREATE TABLE chat(
            id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT NOT NULL, model TEXT NOT NULL, settings TEXT NOT NULL,
            created REAL NOT NULL, updated REAL NOT NULL, pinned INTEGER NOT NULL DEFAULT 0, tip INTEGER)""",
        """CREATE TABLE message(
            id INTEGER PRIMARY KEY AUTOINCREMENT, chat INTEGER NOT NULL, parent INTEGER, role TEXT NOT NULL,
            text TEXT NOT NULL, facts TEXT NOT NULL, created REAL NOT NULL, edited INTEGER NOT NULL DEFAULT 0)""",
        """CREATE TABLE picture(
            message INTEGER NOT NULL, place INTEGER NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL,
            width INTEGER NOT NULL, height INTEGER NOT NULL, origin BLOB NOT NULL, off INTEGER NOT NULL,
            PRIMARY KEY(message, place)) WITHOUT ROWID""",
        "CREATE INDEX chat_updated ON chat(updated)",
        "CREATE INDEX message_chat ON message(chat)",
        "CREATE INDEX picture_digest ON picture(digest)",
        # trigrams match parts of words, and scripts without spaces
        "CREATE VIRTUAL TABLE words USING fts5(text, content='message', content_rowid='id', tokenize='trigram')",
        """CREATE TRIGGER message_added AFTER INSERT ON message BEGIN
            INSERT INTO words(rowid, text) VALUES (new.id, new.text); END""",
        """CREATE TRIGGER message_deleted AFTER DELETE ON message BEGIN
            INSERT INTO words(words, rowid, text) VALUES ('delete', old.id, old.text); END""",
        """CREATE TRIGGER message_changed AFTER UPDATE OF text ON message BEGIN
            INSERT INTO words(words, rowid, text) VALUES ('delete', old.id, old.text);
            INSERT INTO words(rowid, text) VALUES (new.id, new.text); END""",
    )
]


class HistoryError(LlavaError):
    """The history cannot be read or written."""


def without_surrogates(text: str) -> str:
    """The text with lone surrogates replaced: UTF-8 cannot encode them."""
    return _SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text)


def open_database(folder: Path | None) -> tuple[sqlite3.Connection, str]:
    """The database in a folder, or one in memory, and a notice for the user, mostly empty.

    Raises HistoryError if it was written by a newer version, without permission, or without full-text search.
    """
    if folder is None:
        return _connect(":memory:"), ""
    file = folder / FILE
    with history_errors(file), locked(private_folder(folder) / "history.lock"):
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        file.chmod(0o600)  # SQLite gives its -wal and -shm files the same mode
        try:
            return _connect_checked(file), ""
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        renamed = _rename_damaged(file)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        return _connect(str(file)), f"The history was damaged and is now {renamed}; a new one was started."


@contextmanager
def history_errors(file: Path | None) -> Iterator[None]:
    """Turn SQLite and file errors into HistoryError; damage is marked on disk for a check at the next start."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if file is not None and code in _DAMAGE:
            with open(_damage_marker(file), "w", opener=private_opener):
                pass
        raise HistoryError(f"{file or 'the history'}: {error}", _ADVICE.get(code, "Restart mlx-llava.")) from error
    except OSError as error:
        raise HistoryError(
            f"{error.filename or file}: {error.strerror}", "Check permissions and free space."
        ) from error


def _connect_checked(file: Path) -> sqlite3.Connection:
    """A connection; if damage was marked, the whole file is checked first."""
    connection = _connect(str(file))
    if not _damage_marker(file).exists():
        return connection
    try:
        connection.execute("INSERT INTO words(words) VALUES ('rebuild')")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            error = sqlite3.DatabaseError("damaged")
            error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise error
    except BaseException:
        connection.close()
        raise
    _damage_marker(file).unlink()
    return connection


def _connect(file: str) -> sqlite3.Connection:
    """A connection to a database of the current version; the caller serializes its use between threads."""
    connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        _check_search(connection)
        _migrate(connection, file)
        for table in ("chat", "message", "picture"):
            connection.execute(f"SELECT * FROM {table} LIMIT 1").fetchall()
    except BaseException:
        connection.close()
        raise
    return connection


def _check_search(connection: sqlite3.Connection) -> None:
    try:
        connection.execute("CREATE VIRTUAL TABLE temp.probe USING fts5(text, tokenize = 'trigram')")
        connection.execute("DROP TABLE temp.probe")
    except sqlite3.OperationalError as error:
        if "no such" not in str(error) and "tokenizer" not in str(error):
            raise
        raise HistoryError(
            f"the SQLite {sqlite3.sqlite_version} of this Python has no full-text search",
            "Use a Python whose SQLite has FTS5, or chat with --incognito.",
        ) from error


def _migrate(connection: sqlite3.Connection, file: str) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(STEPS):
        raise HistoryError(
            f"{file}: the history has version {version}, this program supports up to {len(STEPS)}",
            "Update mlx-llava, or chat with --incognito.",
        )
    if 0 < version < len(STEPS):
        with closing(sqlite3.connect(f"{file}.before-{len(STEPS)}")) as copy:
            connection.backup(copy)
        Path(f"{file}.before-{len(STEPS)}").chmod(0o600)
    for number, step in enumerate(STEPS[version:], version + 1):
        connection.execute("BEGIN IMMEDIATE")
        for statement in step:
            connection.execute(statement)
        connection.execute(f"PRAGMA user_version = {number}")
        connection.execute("COMMIT")


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _rename_damaged(file: Path) -> Path:
    """Rename the damaged database and its -wal and -shm files."""
    renamed = file.with_name(f"{file.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}{file.suffix}")
    for end in ("", "-wal", "-shm"):
        if (part := Path(f"{file}{end}")).exists():
            part.rename(f"{renamed}{end}")
    _damage_marker(file).unlink(missing_ok=True)
    return renamed


def _damage_marker(file: Path) -> Path:
    """An empty file beside a database in which damage was found."""
    return file.with_suffix(".damaged")
