"""Which folders of models this program wrote or opened, and when: one small file for each.

The file holds the folder's path, and its own time is that of the last use. Nothing depends on it: what cannot be noted
is not.
"""

import contextlib
import hashlib
import os
from pathlib import Path

from mlx_llava.program.paths import data_folder


def note_use(folder: Path) -> None:
    """Note that a model's folder is written or opened now, if that can be noted."""
    with contextlib.suppress(OSError):
        path = os.fsencode(folder.resolve())
        _notes().mkdir(parents=True, exist_ok=True)
        (_notes() / hashlib.sha256(path).hexdigest()[:32]).write_bytes(path)


def last_uses() -> dict[Path, float]:
    """The folders that were used, with the time of the last use; some may be gone."""
    try:
        return {Path(os.fsdecode(file.read_bytes())): file.stat().st_mtime for file in _notes().iterdir()}
    except OSError:
        return {}


def _notes() -> Path:
    return data_folder() / "uses"
