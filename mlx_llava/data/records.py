"""One row of training data to one checked record: LLaVA's `conversations`, or `messages` as in chat APIs.

Knows nothing of files: images are named, not opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_llava.data.content import (
    ONLY_IMAGES,
    OTHER_MEDIA,
    Mark,
    Parts,
    content_parts,
    refuse_other_media,
    short,
    spelled,
)
from mlx_llava.data.image_names import COLUMNS, image_column, images_of
from mlx_llava.data.json_rows import LAYOUTS, Fault
from mlx_llava.prompts.templates import IMAGE, Turn

Message = tuple[str, Parts]  # role, content
IMAGE_COLUMNS = frozenset(COLUMNS)
MEDIA_COLUMNS = frozenset(key for medium in OTHER_MEDIA for key in (medium, f"{medium}s"))
FILE_COLUMNS = IMAGE_COLUMNS | MEDIA_COLUMNS


@dataclass(frozen=True)
class Record:
    """One conversation about images, or about none."""

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    """Paths relative to the image folder, or absolute ones inside it."""
    system: str | None = None
    """The record's own system prompt, instead of the template's."""
    where: str = "a record"
    """File, record and line, for errors."""

    def length(self) -> int:
        """The number of words, negative if it has no image.

        LlavaTrainer groups by these: modality_lengths in llava/train/train.py.
        """
        texts = [text for turn in self.turns for text in (_text(turn), turn.answer or "")]
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
    key = _format_of(row)
    if media := _given(row, MEDIA_COLUMNS):
        raise Fault(f"has {media}", ONLY_IMAGES)
    system, exchanges = _conversation(row[key], key)
    column = image_column(row)
    marks = [part for question, _ in exchanges for part in question if isinstance(part, Mark)]
    if not marks and FORMATS[key].marks_optional:
        question, answer = exchanges[0]
        exchanges[0] = ((Mark(), "\n") * len(column) + question, answer)
        marks = [Mark()] * len(column)
    images = images_of(marks, column, key)
    return Record(_id(row, number), tuple(_turn(*exchange) for exchange in exchanges), images, system, where)


def _format_of(row: Mapping[str, Any]) -> str:
    """The one key of FORMATS that a row has."""
    keys = [key for key in FORMATS if row.get(key) is not None]
    if len(keys) == 1:
        return keys[0]
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if not keys and len(lists) == 1:
        raise Fault(f"not a record: the records are under {short(lists[0])}", LAYOUTS)
    raise Fault(f"needs either conversations or messages, has {', '.join(list(row)[:6])[:80] or 'nothing'}")


def _given(value: Mapping[str, Any], keys: frozenset[str]) -> str | None:
    """One of these keys that has a value."""
    return next((key for key in value.keys() & keys if value[key]), None)


def _text(turn: Turn) -> str:
    """The question as one text, marks included."""
    return "".join([part if isinstance(part, str) else part.text for part in turn.parts()])


def _turn(question: Parts, answer: str) -> Turn:
    return Turn(tuple(IMAGE if isinstance(part, Mark) else part for part in question), 0, answer)


def _id(row: Mapping[str, Any], number: int) -> str:
    """LLaVA's files mix strings and numbers; rows may have no id or share one."""
    own = row.get("id")
    if own is not None and not isinstance(own, str | int):
        raise Fault(f"id is {short(own)}, not text or a whole number")
    return str(number if own is None else own)


def _conversation(value: Any, key: str) -> tuple[str | None, list[tuple[Parts, str]]]:
    """The system prompt, if there is one, and the questions with their answers."""
    if not isinstance(value, list) or not value:
        raise Fault(f"{key} is not a list of messages")
    form, messages = FORMATS[key], list[Message]()
    for i, message in enumerate(value):
        try:
            messages.append(_message(message, form, may_be_system=i == 0))
        except Fault as fault:
            raise Fault(f"{key}[{i}]{fault}", fault.advice) from None
    system = spelled(messages.pop(0)[1]) if messages[0][0] == "system" else None
    if messages and messages[0][0] == form.assistant:  # skipped, as preprocess in llava/train/train.py does
        del messages[0]
    return system, _exchanges(messages, form, key, len(value) - len(messages))


def _message(message: Any, form: Format, may_be_system: bool) -> Message:
    """The role and content of a message; a Fault begins with the field in it."""
    if not isinstance(message, dict):
        raise Fault(" is not an object")
    role = message.get(form.role)
    if role not in (form.user, form.assistant) and not (role == "system" and may_be_system):
        raise Fault(f".{form.role} is {short(role)}, not {form.user} or {form.assistant}")
    if not FILE_COLUMNS.isdisjoint(message):
        _refuse_files(message)
    try:
        parts = content_parts(message.get(form.text))
        if role == form.user:
            refuse_other_media(parts)
    except Fault as fault:
        raise Fault(f".{form.text}{fault}", fault.advice) from None
    if role != form.user and any(isinstance(part, Mark) for part in parts):
        raise Fault(f".{form.text} has an image mark, and only questions can have images")
    return role, parts


def _refuse_files(message: Mapping[str, Any]) -> None:
    """Raise Fault if a message names files beside its content."""
    if media := _given(message, MEDIA_COLUMNS):
        raise Fault(f" has {media}", ONLY_IMAGES)
    if images := _given(message, IMAGE_COLUMNS):
        raise Fault(f" has {images}", "Name the images in the row, or in parts of the content.")


def _exchanges(messages: Sequence[Message], form: Format, key: str, skipped: int) -> list[tuple[Parts, str]]:
    for i, (role, _) in enumerate(messages):
        if role != (form.assistant if i % 2 else form.user):
            raise Fault(f"{key}[{i + skipped}].{form.role} is {role} a second time")
    if not messages or len(messages) % 2:
        raise Fault(f"{key} ends without an answer")
    return [(messages[i][1], spelled(messages[i + 1][1])) for i in range(0, len(messages), 2)]
