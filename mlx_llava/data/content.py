"""The content of one message: text and the places of its images, which parts may name.

Errors begin with what follows the content's own name in a path: `[0] is a video part`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_llava.data.json_rows import Fault
from mlx_llava.prompts.templates import IMAGE

FILE_KEYS = ("image", "url", "path", "image_url")  # where chat APIs and datasets name the file of an image part
OTHER_MEDIA = ("video", "audio")
ONLY_IMAGES = "LLaVA trains on text and images."


@dataclass(frozen=True)
class Mark:
    """The place of an image."""

    file: str | int | None = None
    """The image: its name, its index in the row's list of images, or the next one of that list."""


Parts = tuple[str | Mark, ...]


def content_parts(content: Any) -> Parts:
    """Text and image marks in order; a Fault if there is neither."""
    if isinstance(content, str):
        text, parts = content, _split(content)
    elif isinstance(content, list):
        parts = tuple(part for i, item in enumerate(content) for part in _part(item, f"[{i}]"))
        text = spelled(parts)
    else:
        raise Fault(" is not text")
    if not text or text.isspace():
        raise Fault(" is empty")
    return parts


def spelled(parts: Sequence[str | Mark]) -> str:
    """The parts as one text, marks included."""
    return "".join([part if isinstance(part, str) else IMAGE.text for part in parts])


def refuse_other_media(parts: Parts) -> None:
    """Raise Fault if a question begins or ends with `<video>` or `<audio>`: datasets put their marks there.

    Elsewhere, or with a closing tag, it is HTML that the question is about.
    """
    if not any(isinstance(part, str) and "<" in part for part in parts):
        return
    text = spelled(parts)
    for medium in OTHER_MEDIA:
        mark = f"<{medium}>"
        if mark not in text or f"</{medium}>" in text:
            continue
        if text.strip().startswith(mark) or text.strip().endswith(mark):
            raise Fault(f" has a {mark} mark", ONLY_IMAGES)


def short(value: Any) -> str:
    """The repr of a value, on one line and cut at 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _part(item: Any, where: str) -> Parts:
    """A part in the form of chat APIs."""
    match item:
        case {"type": "text", "text": str(text)} if not _names(item):
            return _split(text)
        case {"type": "image" | "image_url"}:
            return (Mark(_file(item, where)),)
        case {"type": str(kind)} if any(medium in kind for medium in OTHER_MEDIA):
            raise Fault(f"{where} is a part of type {kind}", ONLY_IMAGES)
    raise Fault(f"{where} is neither a text nor an image part")


def _names(part: Mapping[str, Any]) -> list[Any]:
    """What a part has under the keys of image files."""
    values = [part[key] for key in FILE_KEYS if part.get(key) is not None]
    return [value.get("url") if isinstance(value, dict) else value for value in values]


def _file(part: Mapping[str, Any], where: str) -> str | int | None:
    """The file of an image part; None if it has nothing but its type."""
    names = _names(part)
    if not names:
        return _index(part, where)
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise Fault(f"{where} names no file: {short(names[0])}")
    if len({*names}) > 1:
        raise Fault(f"{where} names two files, {short(names[0])} and {short(names[1])}")
    return names[0]


def _index(part: Mapping[str, Any], where: str) -> int | None:
    """The index of an image part, as in HuggingFaceH4/llava-instruct-mix-vsft; text parts have a null there."""
    if part["type"] == "image_url":
        raise Fault(f"{where} names no file")
    others = [key for key, value in part.items() if value is not None and key not in ("type", "index")]
    if others:
        raise Fault(f"{where} has {others[0]}, and image files are read from {', '.join(FILE_KEYS)}")
    index = part.get("index")
    if index is not None and (not isinstance(index, int) or isinstance(index, bool)):
        raise Fault(f"{where} has the index {short(index)}, not a whole number")
    return index


def _split(text: str) -> Parts:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Fault(f" has half a character at {error.start}") from None
    if IMAGE.text not in text:
        return (text,)
    first, *others = text.split(IMAGE.text)
    parts = [first, *(part for other in others for part in (Mark(), other))]
    return tuple(part for part in parts if part)
