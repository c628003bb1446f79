"""Commands about saved chats: the history, exports, training data."""

import shlex
import time
from typing import TYPE_CHECKING

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.errors import UsageError
from mlx_llava.program.paths import expand_home
from mlx_llava.program.text import clean_line
from mlx_llava.tui.history.queries import ChatInfo
from mlx_llava.tui.session.commands.command import number
from mlx_llava.tui.session.reply import Edit, Open, OpenChat, Reply, Say
from mlx_llava.tui.session.session import Session

if TYPE_CHECKING:
    from mlx_llava.tui.history.export import ExportResult, Format

LISTED = 20  # chats in a list
FORMATS: dict["Format", str] = {"markdown": "md", "html": "html", "json": "json", "llava": "json"}  # file suffixes


def history(session: Session, argument: str) -> Reply:
    saved = session.record.history
    if argument:
        lines = [f"{hit.chat.key:5}  {clean_line(hit.excerpt, 100)}" for hit in saved.search(argument, LISTED)]
        return Say("\n".join(lines) or f"nothing matches {argument}")
    return Open("history", "\n".join(map(chat_line, saved.chats(LISTED))) or "no chats yet")


def day(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def chat_line(info: ChatInfo) -> str:
    return f"{info.key:5}  {day(info.updated)}  {'★ ' if info.pinned else ''}{clean_line(info.title, 60)}"


def resume(_: Session, argument: str) -> Reply:
    return OpenChat(number(argument))


def rename(session: Session, argument: str) -> Reply:
    info = session.record.info()
    if not argument:
        return Edit(f"/rename {info.title}")
    session.record.history.rename(info.key, argument)
    session.record.reload_title()
    return Say(f"this chat is now called {clean_line(argument, 80)}")


def delete(session: Session, argument: str) -> Reply:
    info = session.record.info()
    title = clean_line(info.title, 60)
    if argument != "yes":
        return Say(f"this deletes {title}, all its branches and its copies of pictures: /delete yes")
    session.new()
    session.record.history.delete(info.key)
    return Say(f"deleted: {title}")


def pin(session: Session, _: str) -> Reply:
    info = session.record.info()
    session.record.history.pin(info.key, pinned=not info.pinned)
    return Say("no longer pinned" if info.pinned else "pinned: listed first in /history")


def incognito(session: Session, _: str) -> Reply:
    session.record.hide()
    return Say("this window saves no chats from now on")


def export(session: Session, argument: str) -> Reply:
    format, _, name = argument.partition(" ")
    if format not in FORMATS:
        raise UsageError(f"/export {format}: unknown format", f"Use one of {', '.join(FORMATS)}.")
    result = write(session, format, name.strip() or f"chat-{session.record.info().key}.{FORMATS[format]}")
    parts = [f"written to {result.file}"]
    if result.images:
        parts.append(f"pictures in {result.images}")
    if result.missing:
        parts.append(f"missing: {', '.join(result.missing)}")
    return Say("; ".join(parts))


def write(session: Session, format: "Format", name: str) -> "ExportResult":
    """Write the current chat to a file."""
    from mlx_llava.tui.history.export import export

    saved, info = session.record.history, session.record.info()
    return export(saved.load(info.key), format, expand_home(name), saved.read_image)


def tune(session: Session, argument: str) -> Reply:
    result = write(session, "llava", argument or f"chat-{session.record.info().key}.json")
    name = session.model.name if session.model else "MODEL"
    words = ["mlx-llava", "lora"]
    words += ["--model", name] if name not in ("MODEL", EMBEDDED) else []
    words += ["--data", str(result.file)]
    words += ["--images", str(result.images)] if result.images else []
    words += ["--adapter-path", "my-adapter"]
    return Say(
        f"this chat was added to {result.file}, {result.num_records} in all. To tune on it:\n"
        f"{shlex.join(words)}\n"
        f"then: /model {name} my-adapter"
    )
