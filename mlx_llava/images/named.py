"""Images as a command line names them: files, folders, patterns, addresses on the internet, and standard input."""

import io
import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

from PIL import Image as PILImage

from mlx_llava.errors import ImageError, UsageError
from mlx_llava.images.files import find_file, is_address, is_image_name
from mlx_llava.images.image import Image
from mlx_llava.images.pixels import FORMATS, HEIF, Decoding
from mlx_llava.program.paths import expand_home

STANDARD_INPUT = "standard input"


def is_file(word: str) -> bool:
    """Whether a word is the path of a file, a pipe included."""
    return not _path(word).is_dir() if _may_be_path(word) else False


def is_folder(word: str) -> bool:
    """Whether a word is the path of a folder."""
    return _path(word).is_dir() if _may_be_path(word) else False


def open_named(name: str, decoding: Decoding) -> Image:
    """The image of a path or an address.

    Raises ImageError if there is none, NetworkError if an address cannot or must not be fetched.
    """
    if is_address(name):
        from mlx_llava.images.fetch import fetch_image  # late: HTTP and TLS take time to import

        return Image.open(fetch_image(name).data, name, decoding)
    check_file(name)
    return Image.open(_path(name), str(_path(name)), decoding)


def check_file(name: str) -> None:
    """Raise ImageError if a path is not that of a file."""
    try:
        _path(name).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise ImageError(f"{name}: no such image", "Check the path.") from None
    except OSError as error:
        raise ImageError(f"{name}: {error.strerror}", "Check the path, and the permissions of its folders.") from None
    if is_folder(name):
        raise ImageError(f"{name}: a folder, not an image", "Add --each to ask about every image in it.")


def expand(words: Sequence[str]) -> list[str]:
    """The images that words name, each once: files and addresses, the images of folders, and those of patterns."""
    names: dict[str, str] = {}
    for name in (name for word in words for name in _expand(word)):
        names.setdefault(name if is_address(name) else os.path.abspath(_path(name)), name)  # noqa: PTH100 - links stay
    return list(names.values())


def matches(word: str) -> list[str]:
    """The images that a pattern with `*`, `?`, `[…]` or `**` stands for, sorted."""
    pattern = os.path.expanduser(word)  # noqa: PTH111 - Path.expanduser raises for an unknown user
    return sorted(name for name in glob(pattern, recursive=True) if _is_visible_image(name))  # noqa: PTH207 - text


def from_bytes(data: bytes, decoding: Decoding) -> Image | str:
    """An image or the text that came on standard input, whichever the bytes are; UsageError if they are neither."""
    if _has_image_header(data):
        return Image.open(data, STANDARD_INPUT, decoding)
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        problem = f"{STANDARD_INPUT} is neither an image nor UTF-8 text"
        raise UsageError(problem, "Give a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM image, or UTF-8.") from None


def _expand(word: str) -> list[str]:
    if is_address(word) or is_file(word):
        return [word]
    if is_folder(word):
        folder = _path(word)
        names = sorted(str(path) for path in _listed(folder, word) if _is_visible_image(str(path)))
        if not names:
            raise ImageError(f"{word}: no images in this folder", "For those of folders below it: FOLDER/**/*.png")
        return names
    names = matches(word)
    if not names and any(character in word for character in "*?["):
        raise ImageError(f"{word}: no image matches", "Check the pattern; ** stands for any folders.")
    if not names:
        check_file(word)
    return names


def _listed(folder: Path, word: str) -> Iterator[Path]:
    try:
        yield from folder.iterdir()
    except OSError as error:
        raise ImageError(f"{word}: {error.strerror}", "Check the permissions of the folder.") from None


def _is_visible_image(name: str) -> bool:
    path = Path(name)
    return is_image_name(name) and not path.name.startswith(".") and path.is_file()  # ._a.png is macOS's, no image


def _path(word: str) -> Path:
    return find_file(expand_home(word))


def _may_be_path(word: str) -> bool:
    try:
        _path(word).stat()
    except (OSError, ValueError, RuntimeError):  # too long for a path, a null in it, no such user
        return False
    return bool(word)


def _has_image_header(data: bytes) -> bool:
    if data[4:8] == b"ftyp" and data[8:12] in HEIF:
        return True
    try:
        PILImage.open(io.BytesIO(data), formats=FORMATS).close()
    except Exception:  # Pillow's parsers raise almost anything
        return False
    return True
