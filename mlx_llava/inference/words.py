"""What a command line asks: images and a question, from words in any order and from standard input.

Standard input is an image or a question by its content, and nothing that is given is ignored.
"""

import os
import select
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from mlx_llava.errors import ImageError, UsageError
from mlx_llava.images.files import is_address, is_image_name
from mlx_llava.images.image import Image
from mlx_llava.images.named import STANDARD_INPUT, from_bytes, is_file, is_folder, matches
from mlx_llava.images.pixels import MAX_BYTES, Decoding
from mlx_llava.program.run import log

DASH = "-"  # stands for standard input
PATIENCE = 1.0  # seconds before a note says that standard input is being read
_ADVICE = 'For example: mlx-llava ask photo.jpg "What is this?"'


@dataclass(frozen=True)
class Asked:
    """A question, and images by name; `piped` is an image from standard input."""

    question: str
    names: tuple[str, ...]
    piped: Image | None


def read_words(
    words: Sequence[str], images: Sequence[str], prompt: str | None, decoding: Decoding, *, each: bool = False
) -> Asked:
    """Sort words into images and the question; what is missing, or `-`, comes from standard input.

    Args:
        images: words that can only be images.
        prompt: the question, if a flag gives it; then all words are images.
        each: whether folders and patterns stand for their images.
    """
    given = [word for word in (*words, *images, prompt) if word == DASH]
    if len(given) > 1:
        raise UsageError(f"{DASH} stands for standard input, and is given {len(given)} times", "Give it once.")
    words = [word for word in words if word != DASH]
    names = list(words) if prompt is not None else _images(words, each)
    questions = [word for word in words if word not in names] + ([] if prompt in (None, DASH) else [prompt])
    question = _only(questions, each)
    names += [name for name in images if name != DASH]
    piped = _standard_input(bool(given), question is None, not names, decoding)
    if given and piped is None:
        raise UsageError(f"{DASH} stands for {STANDARD_INPUT}, which is empty", "Pipe an image or a question.")
    if isinstance(piped, str) and question is not None:
        problem = f"a question in words, {question[:60]!r}, and text on {STANDARD_INPUT}"
        raise UsageError(problem, "Give one of them; in a loop of a shell, end the command with < /dev/null.")
    if isinstance(piped, str) and DASH in images:
        raise ImageError(f"{STANDARD_INPUT}: text, not an image", "Pipe an image file.")
    question = piped if isinstance(piped, str) else question
    if question is None or not question.strip():
        raise UsageError("no question" if not question else "the question is blank", _ADVICE)
    return Asked(question.strip(), tuple(names), piped if isinstance(piped, Image) else None)


def _images(words: Sequence[str], each: bool) -> list[str]:
    """The words that name images; a missing file still does if it ends like one."""
    names = [word for word in words if is_image_name(word) or _exists(word, each)]
    if len(names) < len(words):
        return names
    # "Is this like cat.png" ends like a file name, but has spaces and is no file
    return [word for word in words if " " not in word or _exists(word, each)]


def _exists(word: str, each: bool) -> bool:
    return is_address(word) or is_file(word) or (each and (is_folder(word) or bool(matches(word))))


def _only(questions: Sequence[str], each: bool) -> str | None:
    for word in questions:
        if is_folder(word) and not each:
            raise ImageError(f"{word}: a folder, not an image", "Add --each to ask about every image in it.")
    if len(questions) < 2:
        return questions[0] if questions else None
    paths = [word for word in questions if each and " " not in word]
    for word in sorted(paths, key=lambda word: not any(character in word for character in "*/[")):
        advice = "Check the path or pattern (** stands for any folders), and put the question in quotes."
        raise ImageError(f"{word}: no image matches", advice)
    first, second = questions[0][:60], questions[1][:60]
    raise UsageError(f"{len(questions)} questions: {first!r} and {second!r}", "Put the question in quotes.")


def _standard_input(named: bool, is_needed: bool, is_useful: bool, decoding: Decoding) -> Image | str | None:
    """The image or text on standard input; None if there is nothing.

    A terminal is read only if named. If image and question are known, input that has not arrived yet is not waited for:
    a parent process may hold the pipe open.
    """
    try:
        descriptor = sys.stdin.fileno()
    except (OSError, ValueError):  # closed, or replaced by an object without a file
        return None
    if not named and (sys.stdin.isatty() or not _can_be_input(descriptor)):
        return None
    if not named and not is_needed and not _has_arrived(descriptor, is_useful):
        return None
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise ImageError(f"{STANDARD_INPUT}: more than {MAX_BYTES // 10**6} MB", "Give a smaller image.")
    return from_bytes(data, decoding) if data.strip() else None


def _can_be_input(descriptor: int) -> bool:
    """False for /dev/null and other devices."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode) or stat.S_ISSOCK(mode)


def _has_arrived(descriptor: int, wait: bool) -> bool:
    """Whether standard input has data or ends; with `wait` it is awaited, and a note says so."""
    if select.select([descriptor], [], [], PATIENCE if wait else 0)[0]:
        return True
    if wait:
        log(f"reading {STANDARD_INPUT}; without an image to pipe, end the command with < /dev/null")
    return wait
