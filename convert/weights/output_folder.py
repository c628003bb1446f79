"""The output folder of a conversion: checked before anything is read, and written whole or not at all."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlx_llava.catalog.pulled import is_converted
from mlx_llava.catalog.uses import note_use
from mlx_llava.errors import ConversionError, LimitError, LlavaError
from mlx_llava.program.atomic import new_folder
from mlx_llava.program.text import printable, size

MADE_HERE = re.compile(rb"^# .*, exported by mlx-llava\b", re.MULTILINE)
MAX_README = 2**16  # bytes of a README that are searched for it


@dataclass(frozen=True)
class Kind:
    """A kind of output folder: its name and its flag in errors, and how one is recognized."""

    name: str
    flag: str
    recognizes: Callable[[Path], bool]


def _is_exported(folder: Path) -> bool:
    with (folder / "README.md").open("rb") as file:
        return MADE_HERE.search(file.read(MAX_README)) is not None


CONVERTED = Kind("a converted folder", "--mlx-path", is_converted)
EXPORTED = Kind("a folder that mlx-llava export wrote", "--hf-path", _is_exported)


def check_apart(target: Path, *needed: Path | str | None, kind: Kind = CONVERTED) -> None:
    """Raise ConversionError if `target` is, or contains, a path that is needed while or after it is replaced."""
    for path in needed:
        if path is not None and _resolved(path).is_relative_to(_resolved(target)):
            raise ConversionError(f"{target}: holds {path}, which is still needed", f"Choose another {kind.flag}.")


def check_target(target: Path, overwrite: bool, kind: Kind = CONVERTED) -> None:
    """Raise ConversionError if `target` exists; with `overwrite`, unless it is an empty folder or one of its kind."""
    if any(path.is_symlink() for path in (_resolved(target), *_resolved(target).parents)):
        raise ConversionError(f"{target}: behind a link that leads to itself", f"Choose another {kind.flag}.")
    if not target.exists():
        return
    if not overwrite:
        raise ConversionError(f"{target}: already exists", f"Choose another {kind.flag}, or add --overwrite.")
    if not _may_be_replaced(target, kind):
        problem = f"{target}: not {kind.name}, so --overwrite leaves it alone"
        raise ConversionError(problem, f"Remove it yourself, or choose another {kind.flag}.")


@contextmanager
def appearing(target: Path, overwrite: bool, num_bytes: int, kind: Kind = CONVERTED) -> Iterator[Path]:
    """A folder to fill with about `num_bytes`; it takes the place of `target` when the `with` ends without an error.

    Raises LlavaError if the disk does not take it. After any error, what was there is still there.
    """
    check_target(target, overwrite, kind)
    target = _resolved(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if num_bytes > free:
            problem = f"{target}: takes {size(num_bytes)}, {size(free)} are free on this disk"
            raise LimitError(problem, f"Free some space, or choose a {kind.flag} on another disk.")
        with new_folder(target, check=lambda: check_target(target, overwrite, kind)) as folder:  # it may exist by now
            yield folder
        if kind is CONVERTED:
            note_use(target)
    except OSError as error:
        problem = f"{target}: {error.strerror or error}; nothing was written"
        raise LlavaError(problem, "Check the free space and the permissions of the folder above it.") from error


def write_files(folder: Path, values: dict[str, Any], tokenizer: bytes, readme: str) -> None:
    """Write everything of a converted folder but its weights; `values` are its config."""
    (folder / "config.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_bytes(tokenizer)
    (folder / "README.md").write_text(readme, encoding="utf-8")


def card(title: str, lines: Iterable[str], about: str = "") -> str:
    """The README of an output folder: a title and what was done, as a list."""
    return f"# {title}\n\n{about}" + "".join(f"- {printable(line)}\n" for line in lines)


def _may_be_replaced(folder: Path, kind: Kind) -> bool:
    """Whether a folder is empty or of this kind; folders inside it, such as .git, were put there by someone else."""
    try:
        entries = [*folder.iterdir()]
        return not entries or (not any(entry.is_dir() for entry in entries) and kind.recognizes(folder))
    except (OSError, ValueError, TypeError):
        return False


def _resolved(path: Path | str) -> Path:
    """The path without links; Path.resolve raises RuntimeError for a link that leads to itself."""
    return Path(os.path.realpath(path))
