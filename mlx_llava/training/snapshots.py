"""Training state on disk, from which a run goes on bit for bit.

A snapshot is a folder `step-00000400` that appears whole: written aside, brought to the disk, renamed. One that is
damaged is passed over for the one before. One process at a time writes a run's folder.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from mlx_llava.checkpoint.safetensors import read_header
from mlx_llava.errors import CheckpointError, TrainingError, UsageError
from mlx_llava.program.atomic import new_folder
from mlx_llava.training.optimizer import Arrays

STATE, MANIFEST, LOCK = "state.safetensors", "manifest.json", ".lock"
PREFIX, ASIDE = "step-", ".aside-"


@dataclass(frozen=True)
class Place:
    """How far a run has come."""

    step: int
    """Steps that are done."""
    epoch: int
    number: int
    """Of the next batch in its epoch."""


@dataclass(frozen=True)
class Snapshot:
    """A run's state at a step."""

    place: Place
    state: Arrays
    """Of the optimizer, which holds the masters of everything trained."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Hold a run's folder; UsageError where another process does. The lock ends with the process.

    A folder that was made for it and stayed empty is removed.
    """
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", "Name a folder that can be made.") from None
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: in use by another run", "Wait for it, or choose another folder.") from None
        try:
            yield
        finally:
            if made and [*folder.iterdir()] == [folder / LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


def save(folder: Path, snapshot: Snapshot, run: Mapping[str, Any], keep: int = 2) -> Path:
    """Write a snapshot and remove all but the newest `keep`; TrainingError leaves those that were there."""
    aside = folder / f"{ASIDE}{snapshot.place.step}-{os.getpid()}"
    target = folder / f"{PREFIX}{snapshot.place.step:08d}"
    try:
        with new_folder(target, aside) as unfinished:  # replaces an earlier, damaged one of the same step
            _write(unfinished, snapshot, run)
    except (OSError, RuntimeError) as error:  # MLX tells of a full disk by the latter
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(
            f"{folder}: step {snapshot.place.step} cannot be saved: {reason}",
            "Make space for it; the snapshots before it are untouched, and the same command goes on from them.",
        ) from error
    for old in _all(folder)[:-keep]:
        _remove(old)
    return target


def sweep(folder: Path) -> None:
    """Remove what a process that was killed left half written or half removed; for the sole writer."""
    for aside in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, snapshot: Snapshot, run: Mapping[str, Any]) -> None:
    mx.save_safetensors(str(folder / STATE), snapshot.state)
    manifest = {"place": asdict(snapshot.place), "run": dict(run), "sha256": _digest(folder / STATE)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))


def latest(folder: Path, run: Mapping[str, Any]) -> Snapshot | None:
    """The newest snapshot that is whole; UsageError where the run it belongs to was another one.

    `run` is everything that must be the same: options, data, model.
    """
    for path in reversed(_all(folder)):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            if manifest["sha256"] != _digest(path / STATE):
                continue
            read_header(path / STATE)
            place = Place(**manifest["place"])
        except (OSError, ValueError, KeyError, TypeError, CheckpointError):
            continue
        changed = sorted(key for key in {*run, *manifest["run"]} if run.get(key) != manifest["run"].get(key))
        if changed:
            raise UsageError(
                f"{path}: belongs to a run with another {', '.join(changed)}",
                "Give the same options and data to go on, or another output folder to start anew.",
            )
        state: Arrays = mx.load(str(path / STATE))  # pyright: ignore
        mx.eval(state)
        return Snapshot(place, state)
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def _remove(path: Path) -> None:
    """Rename first: a folder that is half deleted never bears a good name."""
    aside = path.with_name(f"{ASIDE}old-{path.name}-{os.getpid()}")
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
