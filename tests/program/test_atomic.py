"""Files and folders are replaced at once, and a failure leaves the old ones and nothing beside them."""

import os
import stat
from contextlib import nullcontext
from pathlib import Path

import pytest

from mlx_llava.program import atomic


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder whose two files are of the same save."""
    (tmp_path / "old").mkdir()
    for name in ("config", "weights"):
        (tmp_path / "old" / name).write_text("old")
    return tmp_path / "old"


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_file_is_replaced_at_once(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic.write_file(old / "config", b"new", mode=0o600)
    assert stat.S_IMODE((old / "config").stat().st_mode) == 0o600

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic.write_file(old / "config", b"newer")
    assert contents(old) == {"config": "new", "weights": "old"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_takes_the_place_of_another_at_once(old: Path, fails: bool) -> None:
    def fill() -> None:
        with atomic.new_folder(old) as folder:
            (folder / "config").write_text("new")
            assert contents(old) == {"config": "old", "weights": "old"}
            if fails:
                raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) if fails else nullcontext():
        fill()
    assert contents(old.parent) == ({"old/config": "old", "old/weights": "old"} if fails else {"old/config": "new"})


def test_a_check_that_fails_keeps_the_old_folder(old: Path) -> None:
    with pytest.raises(ZeroDivisionError), atomic.new_folder(old, check=lambda: 1 / 0) as folder:
        (folder / "config").write_text("new")
    assert contents(old.parent) == {"old/config": "old", "old/weights": "old"}


def test_files_that_belong_together_are_never_read_from_two_saves(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, moves = Path.replace, []

    def watched(path: Path, target: Path) -> Path:
        moves.append((target.name, (old / "config").exists()))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", watched)
    with atomic.new_files(old, old / ".new", last="config") as folder:
        for name in ("config", "weights"):
            (folder / name).write_text("new")
    assert moves == [("weights", False), ("config", False)]
    assert contents(old) == {"config": "new", "weights": "new"}
    with pytest.raises(ZeroDivisionError), atomic.new_files(old, old / ".new", last="config") as folder:
        raise ZeroDivisionError
    assert contents(old) == {"config": "new", "weights": "new"}
