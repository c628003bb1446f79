"""Tell pasted or dropped files from text.

Terminals insert the path of a dropped file as text, each in its own way: with backslashes (macOS Terminal, iTerm2,
Ghostty), in quotes (GNOME Terminal, VS Code, kitty at a shell), plain on a line of its own (kitty), as file:// (file
managers). A text counts as files if all of it is files, or if it starts with them and goes on with a question; one that
merely mentions a path stays text.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from mlx_llava.images.files import SUFFIXES, find_file, is_image_name
from mlx_llava.program.paths import expand_home

MAX_FILES = 256  # in one drop
MAX_LENGTH = 4096 * MAX_FILES  # characters: PATH_MAX of Linux for each
MAX_BEFORE = 16  # files before a question
MAX_START = 4096  # characters of a path before a question
_SPACE = " \t\n"  # only these: macOS uses U+202F in names of screenshots
_SPACES = re.compile(rf"[{_SPACE}]+|$")
_QUERY_FORMAT = re.compile(r"[?&](?:format|fm|ext)=(\w+)", re.IGNORECASE)
_OPEN_QUOTE = None  # in place of a word: this way of quoting does not apply

Words = Iterable[str | None]


@dataclass(frozen=True)
class Drop:
    """The files and URLs of a text, and the rest of it."""

    paths: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    text: str = ""
    """Empty if there is nothing else; the whole text if there are no files, or a file is missing."""


def parse_drop(text: str, is_file: Callable[[str], bool] = os.path.isfile) -> Drop:
    """The files and URLs that a pasted text consists of or starts with, and the rest.

    A way of quoting applies if every file exists. If none does, absolute paths with an image suffix count too: so a
    missing image is reported as an error and not taken for a question.
    """
    if len(text) > MAX_LENGTH or "\0" in text:
        return Drop(text=text)
    typed = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in typed.split("\n") if line]
    shell = [lambda: _words(typed), lambda: _words(typed, lenient=True)]
    bare = [lambda: lines, lambda: [line.strip(_SPACE) for line in lines]]
    mixed = [lambda: chain.from_iterable(map(_words, lines))]
    for words in (*bare, *shell, *mixed):
        if files := _all(words(), lambda word: _existing(word, is_file)):
            return files
    for words in shell:
        if files := _all(words(), _missing):
            return files
    start = _leading(typed, is_file) or _all(bare[1](), _missing_line) or _leading_missing(typed, is_file)
    return start or Drop(text=text)


def _leading(text: str, is_file: Callable[[str], bool]) -> Drop | None:
    """The images that a text starts with, and the question after them."""
    paths, urls, rest = list[Path](), list[str](), text.strip(_SPACE)
    for _ in range(MAX_BEFORE + 1):
        starts = [*_starts(rest)]
        found = [(end, path) for end, word in starts if _missing(word) and (path := _existing(word, is_file))]
        if found:
            end, path = found[-1]
            paths.append(Path(path))
        elif starts and _is_image_url(starts[0][1]):
            end, url = starts[0]
            urls.append(url)
        else:
            return Drop(tuple(paths), tuple(urls), rest) if paths or urls else None
        rest = rest[end:].strip(_SPACE)
    return None


def _leading_missing(text: str, is_file: Callable[[str], bool]) -> Drop | None:
    """The image that a text starts with, though there is no such file, and the whole text."""
    paths = [path for _, word in _starts(text.strip(_SPACE)) if (path := _missing_line(word))]
    return Drop((Path(paths[0]),), text=text) if paths and not is_file(paths[0]) else None


def _starts(text: str) -> Iterator[tuple[int, str]]:
    """The starts of a text that end like an image's name, plain and unquoted, from the shortest, with their lengths."""
    for space in _SPACES.finditer(text[:MAX_START]):
        start = text[: space.start()]
        if is_image_name(start.rstrip("'\"")) or _is_image_url(start):
            yield space.start(), start
            match [*_words(start)]:
                case [str(word)] if word != start:
                    yield space.start(), word


def _all(words: Words, to_path: Callable[[str], str | None]) -> Drop | None:
    """The files and URLs of the words; None if one of them is neither a path nor the URL of an image."""
    paths, urls = list[Path](), list[str]()
    for count, word in enumerate(words):
        path = None if word is None or count == MAX_FILES else to_path(word)
        if word is not None and path is None and count < MAX_FILES and _is_image_url(word):
            urls.append(word)
        elif path is None:
            return None
        else:
            paths.append(Path(path))
    return Drop(tuple(paths), tuple(urls)) if paths or urls else None


def _existing(word: str, is_file: Callable[[str], bool]) -> str | None:
    """The absolute path of an existing file; a relative one must have an image suffix."""
    path = _absolute(word)
    if path is not None:
        found = path if is_file(path) else str(find_file(Path(path)))
        return found if is_file(found) else None
    return os.path.abspath(word) if is_image_name(word) and is_file(word) else None  # noqa: PTH100 - accepts any text


def _missing(word: str) -> str | None:
    """The absolute path of a word with an image suffix."""
    path = _absolute(word)
    return path if path is not None and is_image_name(path) else None


def _missing_line(line: str) -> str | None:
    """The absolute path of a line with an image suffix; unlike `/image cat.png`, it has a folder before a space."""
    return _missing(line) if "/" in line.partition(" ")[0][1:] else None


def _absolute(word: str) -> str | None:
    """The word as an absolute path; None if it is none."""
    if word.lower().startswith("file:/"):
        word = _from_uri(word)
    elif word.startswith("~"):
        word = str(expand_home(word))
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return None  # not a possible file name
    return word if word.startswith("/") and "\0" not in word else None


def _from_uri(word: str) -> str:
    """The path of a file:// URI of this machine; empty for another."""
    path = word[len("file:") :]
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        path = f"/{path}" if host.lower() in ("", "localhost") else ""
    return os.fsdecode(unquote_to_bytes(path.encode("utf-8", "surrogatepass")))


def _is_image_url(word: str) -> bool:
    """Whether this is a URL with an image suffix or an image format in its query."""
    if not word.lower().startswith(("http://", "https://")) or any(c in word for c in _SPACE):
        return False
    try:
        parts = urlsplit(word)
    except ValueError:
        return False
    formats = [f".{name.lower()}" for name in _QUERY_FORMAT.findall(f"?{parts.query}")]
    return bool(parts.hostname) and (is_image_name(parts.path) or any(name in SUFFIXES for name in formats))


def _words(text: str, lenient: bool = False) -> Iterator[str | None]:
    """The words of a text, split as a shell does; ends with _OPEN_QUOTE if a quote is not closed.

    Lenient: a backslash also escapes within single quotes, as VS Code writes it.
    """
    word, letters = None, iter(text)
    for letter in letters:
        if letter in _SPACE:
            if word is not None:
                yield word
            word = None
            continue
        piece = _piece(letter, letters, lenient)
        if piece is None:
            yield _OPEN_QUOTE
            return
        word = piece if lenient and letter == "'" and word == "$" else (word or "") + piece
    if word is not None:
        yield word


def _piece(letter: str, letters: Iterator[str], lenient: bool) -> str | None:
    """The text that a letter starts: quoted text, an escaped letter, or the letter itself."""
    if letter == "\\":
        return next(letters, None)
    if letter == "'":
        return _quoted(letters, letter, None if lenient else "")
    return _quoted(letters, letter, '"\\$`') if letter == '"' else letter


def _quoted(letters: Iterator[str], quote: str, escapable: str | None) -> str | None:
    """The text up to the closing quote, None without one; a backslash escapes `escapable` letters, or all if None."""
    text = list[str]()
    for letter in letters:
        if letter == quote:
            return "".join(text)
        if letter == "\\" and escapable != "":
            follows = next(letters, "")
            letter = follows if escapable is None or follows in escapable else letter + follows
        text.append(letter)
    return None
