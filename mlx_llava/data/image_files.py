"""Which of the images that records name are files in the image folder."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path


def image_faults(names: Iterable[str], folder: Path) -> Iterator[tuple[str, str]]:
    """The names that cannot be used, each with the reason.

    Lists each folder once: checking every file takes minutes on a slow disk.
    """
    listings, inside = dict[str, set[str]](), dict[str, bool]()
    for name in names:
        before, slash, file = name.rpartition("/")  # os.path.split takes five times as long
        parent = before or slash
        if parent not in listings:
            listings[parent], inside[parent] = _listing(folder / parent), _is_inside(parent, folder)
        if not inside[parent]:
            yield name, f"image {name!r} leads out of the image folder {folder}"
        # macOS ignores case, and a folder may be spelled in several ways
        elif file not in listings[parent] and not os.path.isfile(folder / name):  # noqa: PTH113 - accepts any name
            yield name, f"image {name!r} is not in {folder}"


def _is_inside(parent: str, folder: Path) -> bool:
    """Whether a folder, relative or absolute and without `..`, is in the image folder; either may be a link."""
    if not parent.startswith("/"):
        return True
    try:
        return any(Path(resolve(parent)).is_relative_to(resolve(folder)) for resolve in (os.path.abspath, _real))
    except (OSError, ValueError):  # a circle of links; a null byte
        return False


def _real(path: str | Path) -> str:
    return os.path.realpath(path)


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):
        return set()
