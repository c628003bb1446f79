"""Slash commands about what is kept: chats of the history, exports, training data."""

import shlex
import time
from typing import TYPE_CHECKING, cast

from mlx_llava.errors import UsageError
from mlx_llava.program.paths import expanded
from mlx_llava.program.text import clean_line
from mlx_llava.tui.history.queries import ChatInfo
from mlx_llava.tui.session.reply import Command, Reply, number
from mlx_llava.tui.session.session import Session

if TYPE_CHECKING:
    from mlx_llava.tui.history.export import Format

SHOWN = 20  # chats in a list
MANY = 256  # conversations from which on `lora` has two steps with its own settings
SHORT = ("--batch-size", "1", "--accumulation", "1", "--warmup-ratio", "0")  # a step for each conversation
FORMS = {"markdown": "md", "html": "html", "json": "json", "llava": "json"}  # and the ends of their files


def _history(session: Session, argument: str) -> Reply:
    history = session.record.history
    if argument:
        lines = [f"{hit.chat.key:5}  {clean_line(hit.excerpt, 100)}" for hit in history.search(argument, SHOWN)]
        return Reply("\n".join(lines) or f"nothing was found for {argument}")
    lines = [chat_line(info) for info in history.chats(SHOWN)]
    return Reply("\n".join(lines) or "no chats yet", screen="history")


def day(when: float) -> str:
    """A time of the last years."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))


def chat_line(info: ChatInfo) -> str:
    """A chat in a list."""
    return f"{info.key:5}  {day(info.updated)}  {'★ ' if info.pinned else ''}{clean_line(info.title, 60)}"


def _open(session: Session, argument: str) -> Reply:
    return Reply(opened=number(argument))


def _rename(session: Session, argument: str) -> Reply:
    info = session.record.info()
    if not argument:
        return Reply(fill=f"/rename {info.title}")
    session.record.history.rename(info.key, argument)
    session.record.see_title()
    return Reply(f"this chat is now called {clean_line(argument, 80)}")


def _delete(session: Session, argument: str) -> Reply:
    info = session.record.info()
    if argument != "yes":
        return Reply(
            f"this deletes {clean_line(info.title, 60)}, all its branches and its copies of pictures: /delete yes"
        )
    session.new()
    session.record.history.delete(info.key)
    return Reply(f"deleted: {clean_line(info.title, 60)}")


def _pin(session: Session, _: str) -> Reply:
    info = session.record.info()
    session.record.history.pin(info.key, pinned=not info.pinned)
    return Reply("no longer pinned" if info.pinned else "pinned: it stands first in /history")


def _incognito(session: Session, _: str) -> Reply:
    session.record.hide()
    return Reply("from here on nothing is kept of this window's chats")


def _export(session: Session, argument: str) -> Reply:
    form, _, name = argument.partition(" ")
    from mlx_llava.tui.history.export import export

    if form not in FORMS:
        raise UsageError(f"/export {form}: not a form", f"Say one of {', '.join(FORMS)}.")
    info = session.record.info()
    file = expanded(name.strip() or f"chat-{info.key}.{FORMS[form]}")
    history = session.record.history
    done = export(history.load(info.key), cast("Format", form), file, history.read_image)
    parts = [f"written to {done.file}"]
    if done.images:
        parts.append(f"pictures in {done.images}")
    if done.missing:
        parts.append(f"no longer there: {', '.join(done.missing)}")
    return Reply("; ".join(parts))


def _tune(session: Session, argument: str) -> Reply:
    from mlx_llava.tui.history.export import export

    info = session.record.info()
    file = expanded(argument or f"chat-{info.key}.json")
    history = session.record.history
    done = export(history.load(info.key), "llava", file, history.read_image)
    model = ["--model", session.model.name] if session.model and session.model.name != "embedded" else []
    words = ["python", "-m", "mlx_llava.lora", *model, "--data", str(done.file)]
    words += ["--images", str(done.images)] if done.images else []
    words += ["--adapter-path", "my-adapter"]
    words += SHORT if done.num_records < MANY else []
    return Reply(
        f"this chat was added to {done.file}, {done.num_records} in all. To tune on it:\n"
        f"{shlex.join(words)}\n"
        f"then: /model {session.model.name if session.model else 'MODEL'} my-adapter"
    )


KEEPING = (
    Command("history", "/history [WORDS]", "chats that were kept, or those with these words", _history),
    Command("open", "/open N", "go on in chat N of the history", _open),
    Command("rename", "/rename TITLE", "give this chat a title", _rename),
    Command("pin", "/pin", "put this chat first in the history, or no longer", _pin),
    Command("delete", "/delete [yes]", "delete this chat", _delete),
    Command("incognito", "/incognito", "keep nothing from here on", _incognito),
    Command("export", "/export FORM [FILE]", f"write this chat to a file: {', '.join(FORMS)}", _export),
    Command("tune", "/tune [FILE]", "make training data of this chat, and say how to tune on it", _tune),
)
