"""The output folder of a conversion: checked before anything is read, and written whole or not at all."""

import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlx_llava.errors import ConversionError, LimitError, LlavaError
from mlx_llava.program.atomic import new_folder
from mlx_llava.program.text import printable, size


def check_apart(target: Path, *needed: Path | str | None) -> None:
    """Raise ConversionError if `target` is, or contains, a path that is needed while or after it is replaced."""
    for path in needed:
        if path is not None and Path(path).resolve().is_relative_to(target.resolve()):
            raise ConversionError(f"{target}: holds {path}, which is still needed", "Choose another --mlx-path.")


def check_target(target: Path, overwrite: bool) -> None:
    """Raise ConversionError if `target` exists; with `overwrite`, unless it is a converted or an empty folder."""
    if not target.exists():
        return
    if not overwrite:
        raise ConversionError(f"{target}: already exists", "Choose another --mlx-path, or add --overwrite.")
    if not _is_ours(target):
        problem = f"{target}: not a converted folder, so --overwrite leaves it alone"
        raise ConversionError(problem, "Remove it yourself, or choose another --mlx-path.")


@contextmanager
def appearing(target: Path, overwrite: bool, num_bytes: int) -> Iterator[Path]:
    """A folder to fill with about `num_bytes`; it takes the place of `target` when the `with` ends without an error.

    Raises LlavaError if the disk does not take it. After any error, what was there is still there.
    """
    check_target(target, overwrite)
    target = target.resolve()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if num_bytes > free:
            problem = f"{target}: takes {size(num_bytes)}, {size(free)} are free on this disk"
            raise LimitError(problem, "Free some space, choose another --mlx-path, or use fewer bits.")
        with new_folder(target, check=lambda: check_target(target, overwrite)) as folder:  # it may exist by now
            yield folder
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


def _is_ours(folder: Path) -> bool:
    """Whether a folder is empty, or has the config.json of a converted one."""
    try:
        return not any(folder.iterdir()) or "mlx_llava" in json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False
