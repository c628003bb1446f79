"""Snapshots on a disk that is full: the last good one stays, and the error says what to do."""

import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx
import pytest

from mlx_llava.errors import TrainingError
from mlx_llava.program import atomic
from mlx_llava.training import snapshots
from mlx_llava.training.snapshots import Progress, Snapshot, latest, save, sole_writer

RUN = {"seed": 1}


def snapshot(step: int) -> Snapshot:
    return Snapshot(Progress(step, 0, step), {"masters.weight": mx.full((50_000,), float(step))})


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Writing beyond fails for this process, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("room", [0, 1000, 150_000, 200_050])
def test_a_full_disk_loses_nothing(tmp_path: Path, room: int) -> None:
    save(tmp_path, snapshot(1), RUN)
    with files_of_at_most(room), pytest.raises(TrainingError, match="step 2 cannot be saved") as raised:
        save(tmp_path, snapshot(2), RUN)
    assert "earlier snapshots are untouched" in raised.value.advice
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    newest = latest(tmp_path, RUN)
    assert newest is not None
    assert newest.progress == Progress(1, 0, 1)
    assert mx.array_equal(newest.state["masters.weight"], snapshot(1).state["masters.weight"])
    save(tmp_path, snapshot(2), RUN)
    assert {path.name for path in tmp_path.iterdir()} == {"step-00000001", "step-00000002"}


@pytest.mark.parametrize("times", range(1, 5))
def test_a_disk_that_fails_while_it_is_synced_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    save(tmp_path, snapshot(1), RUN)
    calls, sync = [], atomic.sync

    def fail(path: Path) -> None:
        calls.append(path)
        if len(calls) == times:
            raise OSError(28, "No space left on device")
        sync(path)

    monkeypatch.setattr(atomic, "sync", fail)
    with pytest.raises(TrainingError, match="No space left on device"):
        save(tmp_path, snapshot(2), RUN)
    newest = latest(tmp_path, RUN)
    assert newest is not None
    assert newest.progress.step == (2 if times == 4 else 1)  # the last sync comes after the renaming


def test_what_a_killed_process_left_is_swept_away(tmp_path: Path) -> None:
    save(tmp_path, snapshot(1), RUN)
    (tmp_path / ".aside-2-77").mkdir()
    (tmp_path / ".aside-2-77" / "state.safetensors").write_text("half")
    snapshots.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sole_writer(tmp_path / "run"):
        raise ZeroDivisionError
    assert not (tmp_path / "run").exists()
    (tmp_path / "there").mkdir()
    with sole_writer(tmp_path / "there"):
        pass
    with sole_writer(tmp_path / "run"):
        save(tmp_path / "run", snapshot(1), RUN)
    assert latest(tmp_path / "run", RUN) is not None
    assert (tmp_path / "there").is_dir()
