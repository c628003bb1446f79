"""Tell pasted or dropped files from text.

Terminals insert the path of a dropped file as text, each in its own way: with backslashes (macOS Terminal, iTerm2,
Ghostty), in quotes (GNOME Terminal, VS Code, kitty at a shell), plain on a line of its own (kitty), as file:// (file
managers). A text counts as files only if all of it is files; one that merely mentions a path stays text.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from mlx_llava.images.files import SUFFIXES, is_image_name
from mlx_llava.program.paths import expand_home

MAX_FILES = 256  # in one drop
MAX_LENGTH = 4096 * MAX_FILES  # characters: PATH_MAX of Linux for each
_SPACE = " \t\n"  # only these: macOS uses U+202F in names of screenshots
_QUERY_FORMAT = re.compile(r"[?&](?:format|fm|ext)=(\w+)", re.IGNORECASE)
_OPEN_QUOTE = None  # in place of a word: this way of quoting does not apply

Words = Iterable[str | None]


@dataclass(frozen=True)
class Drop:
    """The files and URLs of a text, or the text itself if it is nothing else."""

    paths: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    text: str = ""


def parse_drop(text: str, is_file: Callable[[str], bool] = os.path.isfile) -> Drop:
    """The files or URLs that a pasted text consists of, or the text.

    A way of quoting applies if every file exists, or else if every word is an absolute path with an image suffix: then
    a missing image is reported as an error and not taken for a question.
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
    return Drop(text=text)


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
        return path if is_file(path) else None
    return os.path.abspath(word) if is_image_name(word) and is_file(word) else None  # noqa: PTH100 - accepts any text


def _missing(word: str) -> str | None:
    """The absolute path of a word with an image suffix."""
    path = _absolute(word)
    return path if path is not None and is_image_name(path) else None


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
