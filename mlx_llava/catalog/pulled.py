"""Converted models in this program's own folder, which `mlx-llava models pull` and the chat fill; and their names."""

import fcntl
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_llava.errors import LlavaError
from mlx_llava.program.paths import data_folder, expand_home
from mlx_llava.program.run import log


def models_folder() -> Path:
    """The folder of pulled models."""
    return data_folder() / "models"


def pulled_models() -> list[Path]:
    """The converted models in `models_folder`; hidden folders are unfinished."""
    folder = models_folder()
    paths = folder.iterdir() if folder.is_dir() else ()
    return sorted(path for path in paths if is_converted(path) and not path.name.startswith("."))


def pulled(name: str) -> Path | None:
    """The pulled model of this name."""
    return next((path for path in pulled_models() if path.name == name), None)


def place(name: str | None) -> str | None:
    """The folder of a pulled model for its name; any other name of a model as it is.

    A folder comes before a pulled model of the same name; a line on stderr says so.
    """
    model = pulled(name) if name else None
    if name is None or model is None:
        return name
    if expand_home(name).exists():
        log(f"note: {name} is the folder here; the pulled model of this name is {model}")
        return name
    return str(model)


@contextmanager
def sole_writer() -> Iterator[None]:
    """Holds the lock of `models_folder`; raises LlavaError if another process holds it."""
    models_folder().mkdir(parents=True, exist_ok=True)
    with (models_folder() / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LlavaError("another process is pulling or removing a model", "Try again when it is done.") from None
        yield


def delete(model: Path) -> None:
    """Remove a pulled model; it is renamed first, so that no half of it can be taken for a model."""
    with sole_writer():
        hidden = model.with_name(f".{model.name}-{secrets.token_hex(4)}")
        model.rename(hidden)
        if hidden.is_symlink():
            hidden.unlink()
        else:
            shutil.rmtree(hidden)


def is_converted(folder: Path) -> bool:
    """Whether a folder holds a converted model."""
    return "mlx_llava" in config_of(folder)


def config_of(folder: Path) -> dict[str, Any]:
    """The config of a model's folder; empty if there is none that can be read."""
    try:
        values = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def name_for(source: str, quantization: str = "") -> str:
    """The name of a pulled model: that of its repository or folder, and how it is quantized."""
    base = Path(source).name.removesuffix("-hf") or "model"
    return f"{base}-{quantization}" if quantization else base
