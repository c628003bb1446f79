"""Slash commands, the same in both front ends: a command changes the session and may return a `Reply`."""

import difflib

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.program.run import explain
from mlx_llava.tui.session.commands import chats, images, models, turns
from mlx_llava.tui.session.commands.chats import FORMATS
from mlx_llava.tui.session.commands.command import Command
from mlx_llava.tui.session.reply import Attach, Open, Quit, Reply
from mlx_llava.tui.session.session import Session


def _help(_: Session, __: str) -> Reply:
    width = max(len(command.usage) for command in TABLE)
    return Open("help", "\n".join(f"{command.usage:{width}}  {command.what}" for command in TABLE))


TABLE = (  # in the order of /help
    Command("image", "/image PATH|URL …", "attach pictures to the next question", images.attach),
    Command("paste", "/paste", "attach the picture on the clipboard", lambda *_: Attach(clipboard=True)),
    Command("pictures", "/pictures", "list the pictures of this chat", images.show),
    Command("off", "/off N", "hide picture N from the model, which saves its tokens", images.switch(False)),
    Command("on", "/on N", "show it again", images.switch(True)),
    Command("drop", "/drop N", "remove picture N from the draft", images.drop),
    Command("again", "/again", "answer the last question again", turns.again),
    Command("edit", "/edit [N]", "edit question N or the last one, and ask it again", turns.edit),
    Command("correct", "/correct [TEXT]", "replace the last answer with your own, for training data", turns.correct),
    Command("branch", "/branch [previous] [N]", "show another answer, or another version of question N", turns.branch),
    Command("copy", "/copy [code]", "copy the last answer, or its last code block", turns.copy),
    Command("new", "/new", "start a new chat", turns.new),
    Command("eyes", "/eyes", "the pictures as the model sees them", images.eyes),
    Command("cover", "/cover [N] [BOX]", "cover part of picture N or the last one, and ask again", images.cover),
    Command("attention", "/attention [N]", "the patches that each token, or token N, attended to", images.attention),
    Command("model", "/model [NAME] [ADAPTER]", "describe the model, or load a folder or repository", models.model),
    Command("compare", "/compare MODEL [ADAPTER]", "have another model answer the last question too", models.compare),
    Command("set", "/set [NAME VALUE]", "show or change settings", models.change),
    Command("context", "/context", "what fills the context", models.context),
    Command("stats", "/stats", "time and memory of the last answer", turns.stats),
    Command("history", "/history [WORDS]", "saved chats, or those with these words", chats.history),
    Command("open", "/open N", "continue chat N of the history", chats.resume),
    Command("rename", "/rename TITLE", "rename this chat", chats.rename),
    Command("pin", "/pin", "list this chat first in the history, or no longer", chats.pin),
    Command("delete", "/delete [yes]", "delete this chat", chats.delete),
    Command("incognito", "/incognito", "save nothing from now on", chats.incognito),
    Command("export", "/export FORMAT [FILE]", f"export this chat: {', '.join(FORMATS)}", chats.export),
    Command("tune", "/tune [FILE]", "turn this chat into training data, and show how to tune on it", chats.tune),
    Command("tokens", "/tokens", "probability and alternatives of each token; /set alternatives on", turns.tokens),
    Command("instead", "/instead N K", "continue from the K-th alternative of token N: /tokens", turns.instead),
    Command("help", "/help", "this list", _help),
    Command("quit", "/quit", "leave", lambda *_: Quit()),
)
COMMANDS = {command.name: command for command in TABLE}
ALIASES = {
    "bye": "quit",
    "exit": "quit",
    "q": "quit",
    "?": "help",
    "h": "help",
    "clear": "new",
    "regenerate": "again",
    "look": "attention",
}


def run(session: Session, line: str) -> Reply | None:
    """Run a line that starts with a slash; every error is a LlavaError."""
    word, _, argument = line.strip().removeprefix("/").partition(" ")
    command = COMMANDS.get(word) or COMMANDS.get(ALIASES.get(word, ""))
    if command is None:
        close = difflib.get_close_matches(word, COMMANDS, 1)
        raise UsageError(f"/{word}: no such command", f"Did you mean /{close[0]}?" if close else "/help lists them.")
    try:
        return command.run(session, argument.strip())
    except Exception as error:  # a bug in a command must not end the chat
        bug = f"/{command.name}: {type(error).__name__}: {error}"
        raise explain(error) or LlavaError(bug, "This is a bug in mlx-llava; please report it.") from error


def is_command(text: str) -> bool:
    """Whether a line is a command; a path like /home/me/cat.jpg is not."""
    word = text.strip().split(" ", 1)[0]
    return text.startswith("/") and "/" not in word[1:] and "\n" not in text.strip()


def matching(text: str) -> list[Command]:
    """Return the commands that start with what is typed."""
    word = text.removeprefix("/")
    return [command for command in COMMANDS.values() if command.name.startswith(word)] if is_command(text) else []
