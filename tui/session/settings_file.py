"""A settings file that survives hand edits, version changes and concurrent windows."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.history.private_files import locked, private_folder, write_private
from mlx_llava.tui.session.settings import NAMES, Settings, accepts

FILE = "settings.json"


def read_settings(folder: Path) -> tuple[Settings, list[str]]:
    """Read the settings of a folder, with notices for the user.

    A bad value is reported and left in the file; a damaged file is renamed.
    """
    try:
        values, notices = _values(folder / FILE)
    except OSError as error:
        return Settings(), [f"The settings cannot be read: {error.strerror}. Defaults are used."]
    usable = {name: value for name, value in values.items() if name in NAMES and accepts(name, value)}
    for name in values.keys() - usable.keys():
        problem = f"cannot be {clean_line(json.dumps(values[name]), 60)}" if name in NAMES else "is unknown"
        notices.append(f"The setting {clean_line(str(name), 60)} in {folder / FILE} {problem}; it is ignored.")
    return Settings(**usable), sorted(notices)


def write_settings(folder: Path, settings: Settings, before: Settings) -> None:
    """Save what differs from `before`, and keep what another window or version wrote; LlavaError if that fails."""
    changed = {name: getattr(settings, name) for name in NAMES if getattr(settings, name) != getattr(before, name)}
    if not changed:
        return
    try:
        with locked(private_folder(folder) / "settings.lock"):
            values, _ = _values(folder / FILE)
            content = json.dumps({**values, **changed}, indent=2) + "\n"
            write_private(folder / FILE, content.encode())
    except OSError as error:
        raise LlavaError(
            f"{error.filename or folder}: {error.strerror}",
            "The settings apply to this run only; check permissions and disk space.",
        ) from error


def _values(file: Path) -> tuple[Mapping[str, Any], list[str]]:
    """Return the contents of the file, and notices; a damaged file is renamed."""
    try:
        values = json.loads(file.read_bytes())
        if isinstance(values, dict):
            return values, []
    except FileNotFoundError:
        return {}, []
    except (ValueError, RecursionError):
        pass
    renamed = file.with_name(f"{file.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}{file.suffix}")
    file.replace(renamed)
    return {}, [f"The settings were damaged and are now {renamed}; defaults are used."]
