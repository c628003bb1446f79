"""Images by name: addresses, the suffixes of files, and the file that a typed path means."""

import os
import re
import unicodedata
from pathlib import Path

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .gif .bmp .ppm .pgm .pbm .pnm .webp .tif .tiff .avif .heic .heif".split()
)

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def is_address(word: str) -> bool:
    """Whether a word is a URL, of any scheme."""
    return _ADDRESS.fullmatch(word) is not None


def is_image_name(name: str) -> bool:
    """Whether a file name or path ends like an image's."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - accepts any text


def find_file(path: Path) -> Path:
    """The file that a typed or pasted path means; the path itself if there is none, or more than one.

    Terminals and clipboards change names on the way: macOS puts U+202F into names of screenshots, which often arrives
    as a space, and accents may be composed or decomposed. Names that are equal otherwise are the same file.
    """
    if os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[bool(path.anchor) :]:
        name = part if os.path.lexists(found / part) else _same_name(found, part)
        if name is None:
            return path
        found /= name
    return found


def _same_name(folder: Path, name: str) -> str | None:
    """The one name in a folder that differs only in Unicode spaces and normalization."""
    if name.isascii() and " " not in name:
        return None
    wanted = _folded(name)
    try:
        names = [other for other in os.listdir(folder) if _folded(other) == wanted]  # noqa: PTH208 - names alone
    except (OSError, ValueError):
        return None
    return names[0] if len(names) == 1 else None


def _folded(name: str) -> str:
    composed = unicodedata.normalize("NFC", name)
    return "".join(" " if unicodedata.category(letter) == "Zs" else letter for letter in composed)
