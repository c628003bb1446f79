"""A chat as a file for others: Markdown, a page, JSON, or LLaVA's training data.

Pictures are written as the model saw them: upright, on white, as PNG.
"""

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from mlx_llava.errors import ImageError, RecordError, UsageError
from mlx_llava.images.pixels import open_image
from mlx_llava.program.text import clean, clean_line
from mlx_llava.prompts.templates import IMAGE
from mlx_llava.tui.history.database import whole
from mlx_llava.tui.history.export_page import page
from mlx_llava.tui.history.image_copies import SavedImage
from mlx_llava.tui.history.queries import SavedChat, SavedMessage

Form = Literal["markdown", "html", "json", "llava"]
Find = Callable[[SavedImage], bytes]
PAGE_EDGE = 1024  # pixels along the longer edge of a picture on a page
_UNMARKED = IMAGE.text.replace(
    ">", " >"
)  # what somebody typed is no picture, and LLaVA's JSON has no other way to say so


@dataclass(frozen=True)
class Exported:
    """What was written."""

    file: Path
    images: Path | None = None
    """The folder of the pictures, where there is one."""
    gone: tuple[str, ...] = ()
    """What to tell of pictures that are missing from it."""
    records: int = 0
    """How many conversations a file of training data holds."""


@dataclass(frozen=True)
class Exchange:
    """A question, the pictures that stand in front of it, and its answer."""

    question: str
    images: tuple[SavedImage, ...]
    answer: str


def export(chat: SavedChat, form: Form, file: Path, find: Find) -> Exported:
    """Write the shown path of a chat; JSON has all branches.

    LLaVA's JSON is added to a file that is there, in place of what was written of the same path before; the others
    refuse to write over a file. Its pictures must all be there: ImageError.
    """
    if form == "llava":
        return _export_llava(chat, file, find)
    if file.exists():
        raise UsageError(f"{file}: is there already", "Choose another name.")
    if form == "json":
        _write(file, json.dumps(as_json(chat), indent=2, ensure_ascii=False) + "\n")
        return Exported(file)
    pngs, gone = _pngs(chat.path(), find, PAGE_EDGE if form == "html" else None)
    if form == "html":
        _write(file, page(chat, pngs))
        return Exported(file, gone=gone)
    folder = file.with_name(f"{file.stem}_pictures")
    names = _write_images(folder, pngs)
    _write(file, markdown(chat, {digest: quote(f"{folder.name}/{name}") for digest, name in names.items()}))
    return Exported(file, folder if names else None, gone)


def markdown(chat: SavedChat, paths: Mapping[str, str]) -> str:
    """The shown path as Markdown; `paths` of pictures by their digests."""
    parts = [f"# {clean_line(chat.info.title) or 'Chat'}", f"*{clean_line(chat.info.model)}*"]
    for message in chat.path():
        if message.role == "assistant":
            parts += ["**Answer**" + (" (edited)" if message.edited else ""), clean(message.text)]
            continue
        parts += ["---", "**Question**", *(_markdown_image(image, paths) for image in message.images)]
        parts.append("\n".join(f"> {line}" for line in clean(message.text).split("\n")))
    return "\n\n".join(parts) + "\n"


def as_json(chat: SavedChat) -> dict[str, Any]:
    """The whole chat, all branches, as an object for JSON."""
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
    """The shown path as a record of LLaVA's training data; `names` of pictures by their digests.

    Raises RecordError where nothing was answered.
    """
    said, image_names = list[dict[str, str]](), list[str]()
    if system := _text(chat.info.settings.get("system") or ""):
        said.append({"from": "system", "value": system})
    for exchange in exchanges(chat.path()):
        marks = f"{IMAGE.text}\n" * len(exchange.images)
        said.append({"from": "human", "value": marks + exchange.question})
        said.append({"from": "gpt", "value": exchange.answer})
        image_names += [names[image.digest] for image in exchange.images]
    if not said or said[-1]["from"] != "gpt":
        raise RecordError("nothing was answered in this chat", "Export one with an answer.")
    record: dict[str, Any] = {"id": f"{chat.info.created:.0f}-{chat.info.key}-{chat.info.tip}"}
    if image_names:
        record["image"] = image_names[0] if len(image_names) == 1 else image_names
    return {**record, "conversations": said}


def exchanges(path: Sequence[SavedMessage]) -> list[Exchange]:
    """Questions with their answers. One that was never answered is left out; its pictures stand with the next."""
    found, waiting, question = list[Exchange](), tuple[SavedImage, ...](), ""
    for message in path:
        if message.role == "user":
            question, waiting = _text(message.text), (*waiting, *(p for p in message.images if not p.off))
        elif (answer := _text(message.text)) and (question or waiting):
            found.append(Exchange(question, waiting, answer))
            question, waiting = "", ()
    return found


def _export_llava(chat: SavedChat, file: Path, find: Find) -> Exported:
    records = _records(file)
    shown = [image for exchange in exchanges(chat.path()) for image in exchange.images]
    pngs = {image.digest: _png(find(image), None) for image in shown}
    folder = file.with_name(f"{file.stem}_images")
    record = llava_record(chat, {digest: _name(digest) for digest in pngs})
    _write_images(folder, pngs)
    others = [other for other in records if other.get("id") != record["id"]]
    _write(file, json.dumps([*others, record], indent=1, ensure_ascii=False) + "\n")
    return Exported(file, folder if pngs or folder.is_dir() else None, records=len(others) + 1)


def _records(file: Path) -> list[dict[str, Any]]:
    """The records of a file that is to grow; none where there is no file."""
    try:
        records = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    except (OSError, ValueError) as error:
        raise RecordError(f"{file}: cannot be read as JSON", "Choose another name.") from error
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RecordError(f"{file}: not a list of records", "Choose another name.")
    return records


def _pngs(path: Sequence[SavedMessage], find: Find, edge: int | None) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The pictures of a path by their digests, and what to tell of those that are gone."""
    pngs, gone = dict[str, bytes](), list[str]()
    for image in (image for message in path for image in message.images):
        try:
            pngs[image.digest] = pngs.get(image.digest) or _png(find(image), edge)
        except ImageError as error:
            gone.append(error.problem)
    return pngs, tuple(dict.fromkeys(gone))


def _png(data: bytes, edge: int | None) -> bytes:
    """A picture file as the model saw it, smaller where `edge` says so."""
    pil_image = open_image(data, "display")
    if edge is not None:
        pil_image.thumbnail((edge, edge))
    file = io.BytesIO()
    pil_image.save(file, "PNG")
    return file.getvalue()


def _write_images(folder: Path, pngs: Mapping[str, bytes]) -> dict[str, str]:
    """The names of the pictures in a folder, by their digests."""
    names = {digest: _name(digest) for digest in pngs}
    for digest, name in names.items():
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / name, pngs[digest])
    return names


def _write(file: Path, content: str | bytes) -> None:
    """Write a file that appears whole or not at all."""
    data = whole(content).encode() if isinstance(content, str) else content
    unfinished = file.with_name(f".{file.name}.{os.getpid()}")
    unfinished.write_bytes(data)
    unfinished.replace(file)


def _markdown_image(image: SavedImage, paths: Mapping[str, str]) -> str:
    name = "".join(f"\\{c}" if c in "\\`*_[]<>!&#" else c for c in clean_line(image.name))
    shown = f"![{name}]({paths[image.digest]})" if image.digest in paths else f"({name}: the picture is gone)"
    return shown + (" (not shown to the model)" if image.off else "")


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
    """A text without image marks of its own; empty where it is blank."""
    return "" if text.isspace() else whole(text).replace(IMAGE.text, _UNMARKED)
