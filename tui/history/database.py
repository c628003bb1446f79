"""The file that chats are kept in: made, opened, brought up to date, and moved aside where it is damaged.

Knows tables, but not what they are for. Nobody but its owner can read it.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from mlx_llava.errors import LlavaError
from mlx_llava.tui.history.private_files import alone, private, private_folder
from mlx_llava.tui.history.private_files import data_folder as data_folder

FILE = "history.sqlite"
WAIT = 10.0  # seconds for another window to finish writing
_HALF_CHARACTERS = re.compile("[\ud800-\udfff]")
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
ADVICE = {
    sqlite3.SQLITE_FULL: "Free some space: what was saved before is safe.",
    sqlite3.SQLITE_BUSY: "Close other windows of this program, and try again.",
    sqlite3.SQLITE_READONLY: "Check the permissions of the folder.",
    sqlite3.SQLITE_CANTOPEN: "Check the permissions of the folder.",
    **dict.fromkeys(DAMAGE, "Start again: the damaged file is then moved aside, and nothing of it deleted."),
}

# Each step brings the file from one version to the next; never change one that was released, add another.
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
        # trigrams find parts of words, and writing that puts no spaces between them
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


def whole(text: str) -> str:
    """The text without halves of characters, which no file can hold."""
    return _HALF_CHARACTERS.sub("\N{REPLACEMENT CHARACTER}", text)


def open_database(folder: Path | None) -> tuple[sqlite3.Connection, str]:
    """The database of a folder, or one in memory, and what is to be told of it.

    Raises HistoryError where it cannot be used: written by a newer version, no permission, no full-text search.
    """
    if folder is None:
        return _connect(":memory:"), ""
    file = folder / FILE
    with explained(file), alone(private_folder(folder) / "history.lock"):
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        file.chmod(0o600)  # SQLite gives the same to the files beside it
        try:
            return _sound(file), ""
        except sqlite3.DatabaseError as error:
            if not _is_damage(error):
                raise
        aside = _move_aside(file)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
        return _connect(str(file)), f"The history was damaged and is now {aside}; a new one was begun."


@contextmanager
def explained(file: Path | None) -> Iterator[None]:
    """Errors of SQLite and of files, as a HistoryError; damage is remembered, to be looked into at the next start."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if file is not None and code in DAMAGE:
            with open(_mark(file), "w", opener=private):
                pass
        raise HistoryError(f"{file or 'the history'}: {error}", ADVICE.get(code, "Start the program again.")) from error
    except OSError as error:
        raise HistoryError(
            f"{error.filename or file}: {error.strerror}", "Check permissions and free space."
        ) from error


def _sound(file: Path) -> sqlite3.Connection:
    """The database, looked through where damage was seen before."""
    connection = _connect(str(file))
    if not _mark(file).exists():
        return connection
    try:
        connection.execute("INSERT INTO words(words) VALUES ('rebuild')")
        if connection.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            damaged = sqlite3.DatabaseError("damaged")
            damaged.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damaged
    except BaseException:
        connection.close()
        raise
    _mark(file).unlink()
    return connection


def _connect(file: str) -> sqlite3.Connection:
    """A connection to a database of this version; its users take turns."""
    connection = sqlite3.connect(file, timeout=WAIT, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
        _check_search(connection)
        _bring_up_to_date(connection, file)
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
            "Use a Python whose SQLite has FTS5, or chat without a history.",
        ) from error


def _bring_up_to_date(connection: sqlite3.Connection, file: str) -> None:
    version = _version(connection)
    if version > len(STEPS):
        raise HistoryError(
            f"{file}: the history is of version {version}, this program knows {len(STEPS)}",
            "Update mlx-llava, or chat without a history.",
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


def _version(connection: sqlite3.Connection) -> int:
    return connection.execute("PRAGMA user_version").fetchone()[0]


def _is_damage(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in DAMAGE


def _move_aside(file: Path) -> Path:
    """Give the damaged database, and what lies beside it, another name."""
    aside = file.with_name(f"{file.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}{file.suffix}")
    for end in ("", "-wal", "-shm"):
        if (part := Path(f"{file}{end}")).exists():
            part.rename(f"{aside}{end}")
    _mark(file).unlink(missing_ok=True)
    return aside


def _mark(file: Path) -> Path:
    """Stands beside a database in which damage was seen."""
    return file.with_suffix(".damaged")
