"""Settings from one run to the next: a file that bears hands, other versions and two windows."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.history.private_files import locked, private_folder, write_private
from mlx_llava.tui.session.settings import Settings, bears, names

FILE = "settings.json"


@dataclass(frozen=True)
class Kept:
    """Settings as they were found, and what is to be told of them."""

    settings: Settings
    notices: tuple[str, ...] = ()


def read_settings(folder: Path) -> Kept:
    """The settings of a folder. What cannot be used is told, and left in its file or moved aside; never an error."""
    try:
        values, notices = _values(folder / FILE)
    except OSError as error:
        return Kept(Settings(), (f"The settings cannot be read: {error.strerror}. Defaults are used.",))
    good = {name: value for name, value in values.items() if name in names() and bears(name, value)}
    for name in values.keys() - good.keys():
        shown = clean_line(str(name), 60)
        is_value = f"cannot be {clean_line(json.dumps(values[name]), 60)}" if name in names() else "is not known here"
        notices = (*notices, f"The setting {shown} in {folder / FILE} {is_value}; it is left as it is.")
    return Kept(Settings(**good), tuple(sorted(notices)))


def write_settings(folder: Path, settings: Settings, before: Settings) -> None:
    """Save what differs from `before`; what another window or version wrote stays. LlavaError where it cannot be."""
    changed = {name: getattr(settings, name) for name in names() if getattr(settings, name) != getattr(before, name)}
    if not changed:
        return
    try:
        with locked(private_folder(folder) / "settings.lock"):
            values, _ = _values(folder / FILE)
            write_private(folder / FILE, _json({**values, **changed}))
    except OSError as error:
        raise LlavaError(
            f"{error.filename or folder}: {error.strerror}",
            "The settings hold for this run; check permissions and space.",
        ) from error


def _values(file: Path) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """What stands in the file; one that cannot be understood is moved aside, and that is told."""
    try:
        values = json.loads(file.read_bytes())
        if isinstance(values, dict):
            return values, ()
    except FileNotFoundError:
        return {}, ()
    except (ValueError, RecursionError):
        pass
    aside = file.with_name(f"{file.stem}.damaged-{time.strftime('%Y%m%d-%H%M%S')}{file.suffix}")
    file.replace(aside)
    return {}, (f"The settings were damaged and are now {aside}; defaults are used.",)


def _json(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()
