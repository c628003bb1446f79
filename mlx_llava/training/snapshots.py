"""Training state on disk, from which a run resumes bit for bit.

A snapshot is a folder such as `step-00000400`, written atomically. A damaged one is skipped for the one before it.
Only one process at a time writes a run's folder.
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
from mlx_llava.program.signals import interruptible
from mlx_llava.training.optimizer import Arrays

STATE, MANIFEST, LOCK = "state.safetensors", "manifest.json", ".lock"
PREFIX, ASIDE = "step-", ".aside-"


@dataclass(frozen=True)
class Progress:
    """How far a run has come."""

    step: int  # completed steps
    epoch: int
    number: int  # of the next batch in the epoch


@dataclass(frozen=True)
class Snapshot:
    """A run's state at a step."""

    progress: Progress
    state: Arrays
    """The optimizer's, including the master copies of all trained parameters."""


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Lock a run's folder; UsageError if another process holds it. The lock ends with the process.

    A folder created here is removed again if it stays empty.
    """
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TrainingError(f"{folder}: {error.strerror}", "Name a folder that can be created.") from None
    with interruptible(), (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{folder}: in use by another run", "Wait for it, or choose another folder.") from None
        try:
            yield
        finally:
            if created and [*folder.iterdir()] == [folder / LOCK]:
                (folder / LOCK).unlink()
                folder.rmdir()


def save(folder: Path, snapshot: Snapshot, run: Mapping[str, Any], keep: int = 2) -> Path:
    """Write a snapshot and remove all but the newest `keep`; on TrainingError the existing ones are untouched."""
    aside = folder / f"{ASIDE}{snapshot.progress.step}-{os.getpid()}"
    target = folder / f"{PREFIX}{snapshot.progress.step:08d}"
    try:
        with new_folder(target, aside) as unfinished:  # replaces an earlier, damaged one of the same step
            mx.save_safetensors(str(unfinished / STATE), snapshot.state)
            digest = sha256(unfinished / STATE)
            manifest = {"place": asdict(snapshot.progress), "run": dict(run), "sha256": digest}
            (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
    except (OSError, RuntimeError) as error:  # MLX raises RuntimeError for a full disk
        reason = error.strerror if isinstance(error, OSError) else error
        raise TrainingError(
            f"{folder}: step {snapshot.progress.step} cannot be saved: {reason}",
            "Free some space and run the same command again; the earlier snapshots are untouched.",
        ) from error
    for old in _all(folder)[:-keep]:
        _remove(old)
    return target


def sweep(folder: Path) -> None:
    """Remove what a killed process left half written or half removed; only for the sole writer."""
    for aside in folder.glob(f"{ASIDE}*"):
        shutil.rmtree(aside, ignore_errors=True)


def latest(folder: Path, run: Mapping[str, Any]) -> Snapshot | None:
    """The newest intact snapshot; UsageError if it belongs to another run.

    `run` is everything that must be the same: options, data, model.
    """
    for path in reversed(_all(folder)):
        try:
            manifest = json.loads((path / MANIFEST).read_text())
            if manifest["sha256"] != sha256(path / STATE):
                continue
            read_header(path / STATE)
            progress = Progress(**manifest["place"])
        except (OSError, ValueError, KeyError, TypeError, CheckpointError):
            continue
        changed = sorted(key for key in {*run, *manifest["run"]} if run.get(key) != manifest["run"].get(key))
        if changed:
            raise UsageError(
                f"{path}: belongs to a run with another {', '.join(changed)}",
                "Give the same options and data to resume, or another output folder to start a new run.",
            )
        state: Arrays = mx.load(str(path / STATE))  # pyright: ignore
        mx.eval(state)
        return Snapshot(progress, state)
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{PREFIX}*") if path.is_dir())


def _remove(path: Path) -> None:
    """Rename first, so that a half-deleted folder never looks like a snapshot."""
    aside = path.with_name(f"{ASIDE}old-{path.name}-{os.getpid()}")
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
