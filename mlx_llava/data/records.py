"""One row of training data to one checked record: LLaVA's `conversations`, or `messages` as in chat APIs.

Knows nothing of files: images are named, not opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_llava.data.json_rows import Fault
from mlx_llava.prompts.templates import IMAGE, ImageMark, Turn

Parts = tuple[str | ImageMark, ...]
Message = tuple[str, Parts]  # role, content


@dataclass(frozen=True)
class Record:
    """One conversation about images, or about none."""

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    """Paths relative to the image folder."""
    system: str | None = None
    """The record's own system prompt, instead of the template's."""
    where: str = "a record"
    """File, record and line, for errors."""

    def length(self) -> int:
        """The number of words, negative if it has no image.

        LlavaTrainer groups by these: modality_lengths in llava/train/train.py.
        """
        texts = [text for turn in self.turns for text in (_spelled(turn.parts()), turn.answer or "")]
        words = len(" ".join(texts).split())
        return words if self.images else -words


@dataclass(frozen=True)
class Format:
    """The keys and roles that a conversation format uses."""

    role: str
    text: str
    user: str
    assistant: str
    marks_optional: bool
    """Images without a mark go before the first question."""


FORMATS = {
    "conversations": Format("from", "value", "human", "gpt", marks_optional=False),
    # as in TRL's prepare_multimodal_messages and mlx-vlm, which put images without a mark in front
    "messages": Format("role", "content", "user", "assistant", marks_optional=True),
}


def record_of(row: Any, number: int, where: str) -> Record:
    """The record of a row; raises Fault with the field that is wrong."""
    if isinstance(row, Fault):
        raise row
    if not isinstance(row, dict):
        raise Fault("not an object")
    keys = [key for key in FORMATS if key in row]
    if len(keys) != 1:
        raise Fault(f"needs either conversations or messages, has {', '.join(list(row)[:6])[:80] or 'nothing'}")
    system, turns = _conversation(row[keys[0]], keys[0])
    images = _images(row)
    marks = len([part for turn in turns for part in turn.question if isinstance(part, ImageMark)])
    if marks == 0 and FORMATS[keys[0]].marks_optional:
        turns[0] = Turn(tuple([IMAGE, "\n"] * len(images) + turns[0].parts()), 0, turns[0].answer)
    elif marks != len(images):
        raise Fault(f"image marks in {keys[0]}: {marks}, images in image: {len(images)}")
    return Record(_id(row, number), tuple(turns), images, system, where)


def _id(row: Mapping[str, Any], number: int) -> str:
    """LLaVA's files mix strings and numbers; rows may have no id or share one."""
    own = row.get("id")
    if own is not None and not isinstance(own, str | int):
        raise Fault(f"id is {_short(own)}, not text or a whole number")
    return str(number if own is None else own)


def _images(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The images under `image` or `images`; none if it is absent, null or an empty list."""
    values = [row[key] for key in ("image", "images") if row.get(key) is not None]
    if len(values) > 1:
        raise Fault("has both image and images")
    names = values[0] if values else []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise Fault(f"image is {_short(values[0])}, not a path or a list of paths")
    for name in names:
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise Fault(f"image {_short(name)} leads out of the image folder")
    return tuple(names)


def _conversation(value: Any, key: str) -> tuple[str | None, list[Turn]]:
    """The system prompt, if there is one, and the turns."""
    if not isinstance(value, list) or not value:
        raise Fault(f"{key} is not a list of messages")
    form, messages = FORMATS[key], list[Message]()
    for i, message in enumerate(value):
        try:
            messages.append(_message(message, form, may_be_system=i == 0))
        except Fault as fault:
            raise Fault(f"{key}[{i}]{fault}") from None
    system = _spelled(messages.pop(0)[1]) if messages[0][0] == "system" else None
    if messages and messages[0][0] == form.assistant:  # skipped, as preprocess in llava/train/train.py does
        del messages[0]
    return system, _turns(messages, form, key, len(value) - len(messages))


def _message(message: Any, form: Format, may_be_system: bool) -> Message:
    """The role and content of a message; a Fault begins with the field in it."""
    if not isinstance(message, dict):
        raise Fault(" is not an object")
    role = message.get(form.role)
    if role not in (form.user, form.assistant) and not (role == "system" and may_be_system):
        raise Fault(f".{form.role} is {_short(role)}, not {form.user} or {form.assistant}")
    try:
        parts = _parts(message.get(form.text))
    except Fault as fault:
        raise Fault(f".{form.text}{fault}") from None
    if role != form.user and IMAGE in parts:
        raise Fault(f".{form.text} has an image mark, and only questions can have images")
    return role, parts


def _turns(messages: Sequence[Message], form: Format, key: str, skipped: int) -> list[Turn]:
    for i, (role, _) in enumerate(messages):
        if role != (form.assistant if i % 2 else form.user):
            raise Fault(f"{key}[{i + skipped}].{form.role} is {role} a second time")
    if not messages or len(messages) % 2:
        raise Fault(f"{key} ends without an answer")
    return [Turn(messages[i][1], 0, _spelled(messages[i + 1][1])) for i in range(0, len(messages), 2)]


def _parts(content: Any) -> Parts:
    """Text and image marks in order."""
    if isinstance(content, str):
        parts = _split(content)
    elif isinstance(content, list):
        parts = tuple(part for i, item in enumerate(content) for part in _part(item, i))
    else:
        raise Fault(" is not text")
    text = _spelled(parts)
    if not text or text.isspace():
        raise Fault(" is empty")
    return parts


def _part(item: Any, i: int) -> Parts:
    """A part in the form of chat APIs."""
    match item:
        case {"type": "image"}:
            return (IMAGE,)
        case {"type": "text", "text": str(text)}:
            return _split(text)
    raise Fault(f"[{i}] is neither a text nor an image part")


def _split(text: str) -> Parts:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise Fault(f" has half a character at {error.start}") from None
    if IMAGE.text not in text:
        return (text,)
    first, *others = text.split(IMAGE.text)
    parts = [first, *(part for other in others for part in (IMAGE, other))]
    return tuple(part for part in parts if part)


def _spelled(parts: Sequence[str | ImageMark]) -> str:
    """The parts as one text, marks included."""
    return "".join([part if isinstance(part, str) else part.text for part in parts])


def _short(value: Any) -> str:
    """The repr of a value, on one line and cut at 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
