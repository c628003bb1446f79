"""What a paste or a drop means: pictures, or text.

Terminals hand over a dropped file as typed text, each in its own spelling: with backslashes (macOS Terminal, iTerm2,
Ghostty), in quotes (GNOME Terminal, VS Code, kitty at a shell), bare on a line of its own (kitty), as file:// (file
managers). All of a text is files, or it is text: one that merely mentions a path is left alone.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote_to_bytes, urlsplit

from mlx_llava.program.paths import expanded

IMAGES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .gif .bmp .ppm .pgm .pbm .pnm .webp .tif .tiff .avif .heic .heif".split()
)
MOST = 256  # things in one drop
LONGEST = 4096 * MOST  # characters: PATH_MAX of Linux, each
_SPACE = " \t\n"  # and no other: macOS puts U+202F into the names of its screenshots
_QUERY_FORMAT = re.compile(r"[?&](?:format|fm|ext)=(\w+)", re.IGNORECASE)
_OPEN_QUOTE = None  # in place of a word: the spelling does not fit

Words = Iterable[str | None]


@dataclass(frozen=True)
class Dropped:
    """What a text stands for; where it is only text, `text` is all of it."""

    paths: tuple[Path, ...] = ()
    urls: tuple[str, ...] = ()
    text: str = ""


def dropped(text: str, is_file: Callable[[str], bool] = os.path.isfile) -> Dropped:
    """The files or URLs that a pasted text consists of, or the text.

    A spelling counts where every file is there; failing that, where every word is an absolute path that ends like a
    picture's, so that a missing picture is an error to be told and not a question about its name.
    """
    if len(text) > LONGEST or "\0" in text:
        return Dropped(text=text)
    typed = text.replace("\r\n", "\n").replace("\r", "\n")
    lines = [line for line in typed.split("\n") if line]
    shell = [lambda: _words(typed), lambda: _words(typed, lenient=True)]
    bare = [lambda: lines, lambda: [line.strip(_SPACE) for line in lines]]
    mixed = [lambda: chain.from_iterable(map(_words, lines))]
    for words in (*bare, *shell, *mixed):
        if found := _all(words(), lambda word: _there(word, is_file)):
            return found
    for words in shell:
        if found := _all(words(), _missing):
            return found
    return Dropped(text=text)


def _all(words: Words, meant: Callable[[str], str | None]) -> Dropped | None:
    """What the words mean if every one is a path or the URL of a picture."""
    paths, urls = list[Path](), list[str]()
    for count, word in enumerate(words):
        path = None if word is None or count == MOST else meant(word)
        if word is not None and path is None and count < MOST and _is_image_url(word):
            urls.append(word)
        elif path is None:
            return None
        else:
            paths.append(Path(path))
    return Dropped(tuple(paths), tuple(urls)) if paths or urls else None


def _there(word: str, is_file: Callable[[str], bool]) -> str | None:
    """The absolute path of the file that a word names; a relative one counts if it ends like a picture's."""
    path = _absolute(word)
    if path is not None:
        return path if is_file(path) else None
    return os.path.abspath(word) if _is_image(word) and is_file(word) else None  # noqa: PTH100 - bears any text


def _missing(word: str) -> str | None:
    """The path that a word spells, if only a picture can be meant."""
    path = _absolute(word)
    return path if path is not None and _is_image(path) else None


def _absolute(word: str) -> str | None:
    """The absolute path that a word spells."""
    if word.lower().startswith("file:/"):
        word = _from_uri(word)
    elif word.startswith("~"):
        word = str(expanded(word))
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return None  # no file can be called so
    return word if word.startswith("/") and "\0" not in word else None


def _from_uri(word: str) -> str:
    """The path of a file:// URI of this machine; empty for another."""
    path = word[len("file:") :]
    if path.startswith("//"):
        host, _, path = path[2:].partition("/")
        path = f"/{path}" if host.lower() in ("", "localhost") else ""
    return os.fsdecode(unquote_to_bytes(path.encode("utf-8", "surrogatepass")))


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGES  # noqa: PTH122 - bears any text


def _is_image_url(word: str) -> bool:
    """Whether this is an address, and one that says it is of a picture."""
    if not word.lower().startswith(("http://", "https://")) or any(c in word for c in _SPACE):
        return False
    try:
        parts = urlsplit(word)
    except ValueError:
        return False
    formats = [f".{name.lower()}" for name in _QUERY_FORMAT.findall(f"?{parts.query}")]
    return bool(parts.hostname) and (_is_image(parts.path) or any(name in IMAGES for name in formats))


def _words(text: str, lenient: bool = False) -> Iterator[str | None]:
    """The words of a text as a shell splits it, with a last _OPEN_QUOTE where a quote is not closed.

    Lenient: a backslash escapes within single quotes too, as VS Code writes it.
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
    """What a letter opens or is: the text of quotes, an escaped letter, itself."""
    if letter == "\\":
        return next(letters, None)
    if letter == "'":
        return _quoted(letters, letter, None if lenient else "")
    return _quoted(letters, letter, '"\\$`') if letter == '"' else letter


def _quoted(letters: Iterator[str], quote: str, escapable: str | None) -> str | None:
    """The text up to the closing quote, None where there is none; a backslash escapes what is `escapable`, or all."""
    text = list[str]()
    for letter in letters:
        if letter == quote:
            return "".join(text)
        if letter == "\\" and escapable != "":
            follows = next(letters, "")
            letter = follows if escapable is None or follows in escapable else letter + follows
        text.append(letter)
    return None
