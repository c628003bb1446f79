"""One row of training data to one checked record: LLaVA's `conversations`, or `messages` as in chat APIs.

Knows nothing of files; pictures are named here, not opened.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlx_llava.data.json_rows import Fault
from mlx_llava.prompts.templates import IMAGE, ImageMark, Turn

Parts = tuple[str | ImageMark, ...]
Said = tuple[str, Parts]  # who, what


@dataclass(frozen=True)
class Record:
    """One conversation about some pictures."""

    id: str
    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    """Paths below the picture folder."""
    system: str | None = None
    """A system prompt of its own, instead of the template's."""
    where: str = "a record"
    """File, record and line, for people."""

    def length(self) -> int:
        """How long it is, without a tokenizer: its words, negative where it has no picture.

        LlavaTrainer groups by these: modality_lengths in llava/train/train.py.
        """
        said = [text for turn in self.turns for text in (_spelled(turn.parts()), turn.answer or "")]
        words = len(" ".join(said).split())
        return words if self.images else -words


@dataclass(frozen=True)
class Form:
    """The words in which a conversation is written down."""

    who: str
    text: str
    asks: str
    answers: str
    marks_may_be_left_out: bool
    """Pictures without a mark stand in front of the first question."""


FORMS = {
    "conversations": Form("from", "value", "human", "gpt", marks_may_be_left_out=False),
    # TRL's prepare_multimodal_messages and mlx-vlm put the pictures in front themselves
    "messages": Form("role", "content", "user", "assistant", marks_may_be_left_out=True),
}


def record_of(row: Any, number: int, where: str) -> Record:
    """The record of a row; a Fault that names the field where something is wrong."""
    if isinstance(row, Fault):
        raise row
    if not isinstance(row, dict):
        raise Fault("not an object")
    keys = [key for key in FORMS if key in row]
    if len(keys) != 1:
        raise Fault(f"needs either conversations or messages, has {', '.join(list(row)[:6])[:80] or 'nothing'}")
    system, turns = _conversation(row[keys[0]], keys[0])
    images = _images(row)
    marks = len([part for turn in turns for part in turn.question if isinstance(part, ImageMark)])
    if marks == 0 and FORMS[keys[0]].marks_may_be_left_out:
        turns[0] = Turn(tuple([IMAGE, "\n"] * len(images) + turns[0].parts()), 0, turns[0].answer)
    elif marks != len(images):
        raise Fault(f"image marks in {keys[0]}: {marks}, pictures in image: {len(images)}")
    return Record(_id(row, number), tuple(turns), images, system, where)


def _id(row: Mapping[str, Any], number: int) -> str:
    """LLaVA's files mix strings and numbers; not every row has an id, nor is it always its own."""
    given = row.get("id")
    if given is not None and not isinstance(given, str | int):
        raise Fault(f"id is {_shown(given)}, not text or a whole number")
    return str(number if given is None else given)


def _images(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The pictures under `image` or `images`; none where it is absent, null or an empty list."""
    given = [row[key] for key in ("image", "images") if row.get(key) is not None]
    if len(given) > 1:
        raise Fault("has both image and images")
    names = given[0] if given else []
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise Fault(f"image is {_shown(given[0])}, not a path or a list of paths")
    for name in names:
        if name.startswith("/") or (".." in name and ".." in name.split("/")):
            raise Fault(f"image {_shown(name)} leads out of the picture folder")
    return tuple(names)


def _conversation(messages: Any, key: str) -> tuple[str | None, list[Turn]]:
    """The system prompt if there is one, and the turns."""
    if not isinstance(messages, list) or not messages:
        raise Fault(f"{key} is not a list of messages")
    form, said = FORMS[key], list[Said]()
    for i, message in enumerate(messages):
        try:
            said.append(_message(message, form, may_be_system=i == 0))
        except Fault as fault:
            raise Fault(f"{key}[{i}]{fault}") from None
    system = _spelled(said.pop(0)[1]) if said[0][0] == "system" else None
    if said and said[0][0] == form.answers:  # preprocess in llava/train/train.py: skip it
        del said[0]
    return system, _turns(said, form, key, len(messages) - len(said))


def _message(message: Any, form: Form, may_be_system: bool) -> Said:
    """Who says what; a Fault begins with the field, seen from the message."""
    if not isinstance(message, dict):
        raise Fault(" is not an object")
    who = message.get(form.who)
    if who not in (form.asks, form.answers) and not (who == "system" and may_be_system):
        raise Fault(f".{form.who} is {_shown(who)}, not {form.asks} or {form.answers}")
    try:
        parts = _parts(message.get(form.text))
    except Fault as fault:
        raise Fault(f".{form.text}{fault}") from None
    if who != form.asks and IMAGE in parts:
        raise Fault(f".{form.text} has an image mark, and only questions show pictures")
    return who, parts


def _turns(said: Sequence[Said], form: Form, key: str, skipped: int) -> list[Turn]:
    """Questions with their answers."""
    for i, (who, _) in enumerate(said):
        if who != (form.answers if i % 2 else form.asks):
            raise Fault(f"{key}[{i + skipped}].{form.who} is {who} a second time")
    if not said or len(said) % 2:
        raise Fault(f"{key} ends without an answer")
    return [Turn(said[i][1], 0, _spelled(said[i + 1][1])) for i in range(0, len(said), 2)]


def _parts(content: Any) -> Parts:
    """Text and image marks in the order in which they are written."""
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
    """A part as chat APIs write it."""
    match item:
        case {"type": "image"}:
            return (IMAGE,)
        case {"type": "text", "text": str(text)}:
            return _split(text)
    raise Fault(f"[{i}] is neither a text nor an image part")


def _split(text: str) -> Parts:
    """A text at its image marks."""
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
    """The parts as one text, which marks are a part of."""
    return "".join([part if isinstance(part, str) else part.text for part in parts])


def _shown(value: Any) -> str:
    """A value as Python writes it, so that it stays on its line, and its beginning alone if it is long."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
