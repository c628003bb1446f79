"""The history file: damage, other versions and missing features end in advice, never in a crash."""

import random
import sqlite3
import stat
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from saved_chats import talk

from mlx_llava.program.paths import config_folder, data_folder
from mlx_llava.tui.history import database
from mlx_llava.tui.history.database import FILE, STEPS, HistoryError
from mlx_llava.tui.history.history import History


@pytest.mark.parametrize("damage", ["header", "middle", "noise"])
def test_a_damaged_file_is_renamed_with_a_notice(folder: Path, damage: str) -> None:
    history = History(folder)
    chat = talk(history, *(f"text {n} " * 50 for n in range(200)))
    history.close()
    file = folder / FILE
    data = bytearray(file.read_bytes())
    if damage == "header":
        data[:100] = bytes(100)
    elif damage == "middle":
        data[4096:] = bytes(len(data) - 4096)
    else:
        data = bytearray(random.Random(0).randbytes(5000))
    file.write_bytes(data)
    for _ in range(2):  # a damaged page is found when it is read, and handled at the next start
        history = History(folder)
        if history.notice:
            break
        with pytest.raises(HistoryError, match="malformed") as raised:
            history.load(chat)
        assert "Start again" in raised.value.advice
        history.close()
    (renamed,) = (path for path in folder.glob("history.damaged-*") if path.suffix == ".sqlite")
    assert str(renamed) in history.notice
    assert renamed.read_bytes()[4096:8192] == bytes(data[4096:8192])
    talk(history, "goes", "on")
    history.close()
    assert (History(folder).notice, len(History(folder).chats())) == ("", 1)


def test_a_newer_history_is_left_alone(folder: Path) -> None:
    History(folder).close()
    with sqlite3.connect(folder / FILE) as connection:
        connection.execute("PRAGMA user_version = 99")
    before = (folder / FILE).read_bytes()
    with pytest.raises(HistoryError, match="version 99") as raised:
        History(folder)
    assert "Update" in raised.value.advice
    assert (folder / FILE).read_bytes() == before


def test_an_older_history_is_migrated_and_backed_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    history = History(folder)
    chat = talk(history, "old", "yes")
    history.close()
    monkeypatch.setattr(database, "STEPS", [*STEPS, ("ALTER TABLE chat ADD COLUMN colour TEXT",)])
    assert History(folder).load(chat).path()[0].text == "old"
    copy = folder / f"{FILE}.before-2"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert sqlite3.connect(copy).execute("SELECT count(*) FROM message").fetchone() == (2,)
    monkeypatch.setattr(database, "STEPS", STEPS)
    with pytest.raises(HistoryError, match="version 2"):
        History(folder)


class WithoutSearch(sqlite3.Connection):
    """A SQLite built without FTS5."""

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        if "fts5" in sql:
            raise sqlite3.OperationalError("no such module: fts5")
        return super().execute(sql, parameters)


def test_missing_full_text_search_is_an_error_with_advice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = partial(sqlite3.connect, factory=WithoutSearch)
    monkeypatch.setattr(sqlite3, "connect", connect)
    with pytest.raises(HistoryError, match="has no full-text search") as raised:
        History(folder)
    assert "FTS5" in raised.value.advice


def test_a_folder_that_cannot_be_written_is_an_error_with_advice(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="file") as raised:
        History(tmp_path / "file" / "data")
    assert raised.value.advice


def test_the_environment_chooses_the_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))
    assert (data_folder(), config_folder()) == (tmp_path / "data", tmp_path / "config")
    monkeypatch.delenv("MLX_LLAVA_HOME")
    assert "mlx-llava" in data_folder().parts
    assert "mlx-llava" in config_folder().parts
