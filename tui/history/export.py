"""Export a chat as Markdown, an HTML page, JSON, or LLaVA's training data.

Images are written as PNG as the model saw them: upright and on white.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mlx_llava.errors import ImageError, RecordError, UsageError
from mlx_llava.images.pixels import open_image
from mlx_llava.program.atomic import write_file
from mlx_llava.program.text import clean, clean_line
from mlx_llava.prompts.templates import IMAGE
from mlx_llava.tui.history.database import without_surrogates
from mlx_llava.tui.history.export_page import page
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import SavedChat, SavedMessage

Format = Literal["markdown", "html", "json", "llava"]
ReadImage = Callable[[SavedImage], bytes]
PAGE_EDGE = 1024  # pixels along the longer edge of an image on a page
_TYPED_MARK = IMAGE.text.replace(">", " >")  # typed text is not an image mark; LLaVA's JSON has no escape for it


@dataclass(frozen=True)
class ExportResult:
    """The files of an export."""

    file: Path
    images: Path | None = None
    """The folder of the images, if there is one."""
    missing: tuple[str, ...] = ()
    """A problem for each image that could not be read."""
    num_records: int = 0
    """Conversations in a file of training data."""


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question with the images in front of it and its answer."""

    question: str
    images: tuple[SavedImage, ...]
    answer: str


def export(chat: SavedChat, format: Format, file: Path, read: ReadImage) -> ExportResult:
    """Write the current path of a chat; JSON gets all branches.

    LLaVA's format appends to an existing file and replaces an earlier export of the same path; the others never
    overwrite a file. LLaVA's format needs every image and raises ImageError; the others report missing ones.
    """
    if format == "llava":
        return _export_llava(chat, file, read)
    if file.exists():
        raise UsageError(f"{file}: already exists", "Choose another name.")
    if format == "json":
        _write(file, json.dumps(as_json(chat), indent=2, ensure_ascii=False) + "\n")
        return ExportResult(file)
    pngs, missing = _pngs(chat.path(), read, PAGE_EDGE if format == "html" else None)
    if format == "html":
        _write(file, page(chat, pngs))
        return ExportResult(file, missing=missing)
    folder = file.with_name(f"{file.stem}_pictures")
    names = _write_images(folder, pngs)
    _write(file, markdown(chat, {digest: quote(f"{folder.name}/{name}") for digest, name in names.items()}))
    return ExportResult(file, folder if names else None, missing)


def markdown(chat: SavedChat, paths: Mapping[str, str]) -> str:
    """The current path as Markdown; `paths` maps digests of images to their files."""
    parts = [f"# {clean_line(chat.info.title) or 'Chat'}", f"*{clean_line(chat.info.model)}*"]
    for message in chat.path():
        if message.role == "assistant":
            parts += ["**Answer**" + (" (edited)" if message.edited else ""), clean(message.text)]
            continue
        parts += ["---", "**Question**", *(_markdown_image(image, paths) for image in message.images)]
        parts.append("\n".join(f"> {line}" for line in clean(message.text).split("\n")))
    return "\n\n".join(parts) + "\n"


def as_json(chat: SavedChat) -> dict[str, Any]:
    """The whole chat with all branches, as a JSON object."""
    info = chat.info
    return {
        "schema": 1,
        "title": info.title,
        "model": info.model,
        "settings": info.settings,
        "created": info.created,
        "shown": [message.key for message in chat.path()],
        "messages": [
            {
                "id": message.key,
                "parent": message.parent,
                "role": message.role,
                "text": message.text,
                "edited": message.edited,
                "created": message.created,
                "facts": message.facts,
                "pictures": [_as_json(image) for image in message.images],
            }
            for message in chat.messages.values()
        ],
    }


def llava_record(chat: SavedChat, names: Mapping[str, str]) -> dict[str, Any]:
    """The current path as a record of LLaVA's training data; `names` maps digests of images to file names.

    Raises RecordError if the path has no answer.
    """
    messages, image_names = list[dict[str, str]](), list[str]()
    if system := _text(chat.info.settings.get("system") or ""):
        messages.append({"from": "system", "value": system})
    for exchange in answered_questions(chat.path()):
        marks = f"{IMAGE.text}\n" * len(exchange.images)
        messages.append({"from": "human", "value": marks + exchange.question})
        messages.append({"from": "gpt", "value": exchange.answer})
        image_names += [names[image.digest] for image in exchange.images]
    if not messages or messages[-1]["from"] != "gpt":
        raise RecordError("this chat has no answer to train on", "Export a chat with an answer.")
    record: dict[str, Any] = {"id": f"{chat.info.created:.0f}-{chat.info.key}-{chat.info.tip}"}
    if image_names:
        record["image"] = image_names[0] if len(image_names) == 1 else image_names
    return {**record, "conversations": messages}


def answered_questions(path: Sequence[SavedMessage]) -> list[AnsweredQuestion]:
    """The questions with answers. The images of a question without one go to the next question."""
    answered, images, question = list[AnsweredQuestion](), tuple[SavedImage, ...](), ""
    for message in path:
        if message.role == "user":
            question, images = _text(message.text), (*images, *(image for image in message.images if not image.off))
        elif (answer := _text(message.text)) and (question or images):
            answered.append(AnsweredQuestion(question, images, answer))
            question, images = "", ()
    return answered


def _export_llava(chat: SavedChat, file: Path, read: ReadImage) -> ExportResult:
    records = _records(file)
    images = [image for exchange in answered_questions(chat.path()) for image in exchange.images]
    pngs = {image.digest: _png(read(image), None) for image in images}
    folder = file.with_name(f"{file.stem}_images")
    record = llava_record(chat, {digest: _name(digest) for digest in pngs})
    _write_images(folder, pngs)
    others = [other for other in records if other.get("id") != record["id"]]
    _write(file, json.dumps([*others, record], indent=1, ensure_ascii=False) + "\n")
    return ExportResult(file, folder if pngs or folder.is_dir() else None, num_records=len(others) + 1)


def _records(file: Path) -> list[dict[str, Any]]:
    """The records of an existing file; none without a file."""
    try:
        records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except (OSError, ValueError) as error:
        raise RecordError(f"{file}: cannot be read as JSON", "Choose another name.") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RecordError(f"{file}: not a list of records", "Choose another name.")
    return records


def _pngs(path: Sequence[SavedMessage], read: ReadImage, edge: int | None) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The images of a path by digest, and a problem for each that is missing."""
    pngs, missing = dict[str, bytes](), list[str]()
    for image in (image for message in path for image in message.images):
        try:
            pngs[image.digest] = pngs.get(image.digest) or _png(read(image), edge)
        except ImageError as error:
            missing.append(error.problem)
    return pngs, tuple(dict.fromkeys(missing))


def _png(data: bytes, edge: int | None) -> bytes:
    """An image file as the model saw it, shrunk to `edge` pixels."""
    pil_image = open_image(data, "display")
    if edge is not None:
        pil_image.thumbnail((edge, edge))
    file = io.BytesIO()
    pil_image.save(file, "PNG")
    return file.getvalue()


def _write_images(folder: Path, pngs: Mapping[str, bytes]) -> dict[str, str]:
    """Write images into a folder; their file names by digest."""
    names = {digest: _name(digest) for digest in pngs}
    for digest, name in names.items():
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / name, pngs[digest])
    return names


def _write(file: Path, content: str | bytes) -> None:
    data = without_surrogates(content).encode() if isinstance(content, str) else content
    write_file(file, data, durable=False)


def _markdown_image(image: SavedImage, paths: Mapping[str, str]) -> str:
    name = "".join(f"\\{c}" if c in "\\`*_[]<>!&#" else c for c in clean_line(image.name))
    link = f"![{name}]({paths[image.digest]})" if image.digest in paths else f"({name}: the image is missing)"
    return link + (" (not shown to the model)" if image.off else "")


def _as_json(image: SavedImage) -> dict[str, Any]:
    return {
        "name": image.name,
        "sha256": image.digest,
        "size": list(image.size),
        "origin": image.origin,
        "shown": not image.off,
    }


def _name(digest: str) -> str:
    return f"{digest[:24]}.png"


def _text(text: str) -> str:
    """Text with typed image marks broken up; empty if it is blank."""
    return "" if text.isspace() else without_surrogates(text).replace(IMAGE.text, _TYPED_MARK)
