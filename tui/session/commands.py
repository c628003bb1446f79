"""Slash commands, the same on the screen and in plain lines.

A command changes the session and returns a `Reply`, which the front fulfils in its own way.
"""

import difflib
import shlex
from collections.abc import Callable, Sequence

from mlx_llava.engine.messages import Load
from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.program.paths import expanded
from mlx_llava.program.run import explain
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.cover import covered, neutral
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.attention import seen
from mlx_llava.tui.session.chat_commands import KEEPING
from mlx_llava.tui.session.comparison import compare, cover
from mlx_llava.tui.session.conversation import Node, code_blocks
from mlx_llava.tui.session.reply import Command, Reply, number
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import about, names, setting_name


def run(session: Session, line: str) -> Reply:
    """Carry out a line that begins with a slash; raises LlavaError for what is wrong with it."""
    word, _, argument = line.strip().removeprefix("/").partition(" ")
    command = COMMANDS.get(word) or COMMANDS.get(ALIASES.get(word, ""))
    if command is None:
        close = difflib.get_close_matches(word, COMMANDS, 1)
        raise UsageError(f"/{word}: no such command", f"Did you mean /{close[0]}?" if close else "/help lists them.")
    try:
        return command.run(session, argument.strip())
    except Exception as error:  # one that nobody foresaw must not end a chat either
        ours = LlavaError(f"/{command.name}: {type(error).__name__}: {error}", "That is a mistake of this program.")
        raise explain(error) or ours from error


def is_command(text: str) -> bool:
    """Whether a line is a command: a path like /home/me/cat.jpg is none."""
    word = text.strip().split(" ", 1)[0]
    return text.startswith("/") and "/" not in word[1:] and "\n" not in text.strip()


def matching(text: str) -> list[Command]:
    """The commands that a word which begins with a slash may become."""
    word = text.removeprefix("/")
    return [command for command in COMMANDS.values() if command.name.startswith(word)] if is_command(text) else []


def _help(_: Session, __: str) -> Reply:
    width = max(len(command.usage) for command in COMMANDS.values())
    return Reply("\n".join(f"{c.usage:{width}}  {c.what}" for c in COMMANDS.values()), screen="help")


def _image(_: Session, argument: str) -> Reply:
    from mlx_llava.tui.images.dropped import dropped

    if not argument:
        return Reply("/image PATH attaches a picture to the next question", screen="files")
    found = dropped(argument)
    if found.text:
        return Reply(attach=(expanded(argument),))
    return Reply(attach=found.paths, fetched=found.urls)


def _paste(_: Session, __: str) -> Reply:
    return Reply(pasted=True)


def _images(session: Session, _: str) -> Reply:
    cost = session.model.image_tokens if session.model else None
    lines = []
    for shown in session.images():
        width, height = shown.image.size
        tokens = f"{cost} tokens" if cost else ""
        where = "draft" if shown.node is session.draft else "asked"
        lines.append(f"{shown.number}  {shown.image.name}  {width}×{height}  {tokens if shown.on else 'off'}  {where}")
    return Reply("\n".join(lines) or "no pictures yet")


def _switch(on: bool) -> Callable[[Session, str], Reply]:
    def switch(session: Session, argument: str) -> Reply:
        shown = session.image(number(argument))
        if shown.on != on:
            session.switch(shown.number)
        return Reply(f"picture {shown.number} is {'on' if on else 'off'}")

    return switch


def _drop(session: Session, argument: str) -> Reply:
    session.remove(number(argument))
    return Reply(f"picture {argument} is gone from the draft")


def _again(session: Session, _: str) -> Reply:
    session.again()
    return Reply()


def _edit(session: Session, argument: str) -> Reply:
    question = asked(session, number(argument) if argument else len(session.conversation.questions))
    return Reply(fill=question.text, edited=question)


def asked(session: Session, number: int) -> Node:
    """A question of the path by its number."""
    questions = session.conversation.questions
    if not 1 <= number <= len(questions):
        raise UsageError(f"there is no question {number}", f"There are {len(questions)}.")
    return questions[number - 1]


def _correct(session: Session, argument: str) -> Reply:
    answers = session.conversation.answers
    if not answers:
        raise UsageError("there is no answer yet", "Ask something.")
    if not argument:
        return Reply(fill=answers[-1].text, edited=answers[-1])
    session.correct(answers[-1], argument)
    return Reply("the answer was changed")


def _branch(session: Session, argument: str) -> Reply:
    steps = {"next": 1, "previous": -1}
    *direction, question = argument.split() if argument[-1:].isdecimal() else [*argument.split(), ""]
    if len(direction) > 1 or any(word not in steps for word in direction):
        raise UsageError(f"/branch {argument}: not known", "Say /branch, /branch previous, or /branch previous 2.")
    path = session.conversation.path()
    place = path.index(asked(session, number(question))) if question else None
    node = next((n for n in reversed(path) if n.place[1] > 1), None) if place is None else path[place]
    if node is None or not session.choose(node, steps[direction[0]] if direction else 1):
        raise UsageError("there is no other branch", "/again and /edit make one.")
    path = session.conversation.path()
    here = next(n for n in reversed(path) if n.place[1] > 1) if place is None else path[place]
    return Reply(f"branch {here.place[0]} of {here.place[1]}")


def _copy(session: Session, argument: str) -> Reply:
    answers = [node.text for node in session.conversation.answers if node.text]
    if not answers:
        raise UsageError("there is no answer yet", "Ask something.")
    if argument != "code":
        return Reply("the answer was copied", copy=answers[-1])
    blocks = code_blocks(answers[-1])
    if not blocks:
        raise UsageError("the last answer has no code block", "/copy copies all of it.")
    return Reply("the last code block was copied", copy=blocks[-1])


def _new(session: Session, _: str) -> Reply:
    session.new()
    return Reply("a new chat")


def named(argument: str) -> Load:
    """The model and the adapter of a line: one folder whose name may hold spaces, or words, perhaps in quotes."""
    try:
        name, *rest = [argument] if expanded(argument).is_dir() else shlex.split(argument)
    except ValueError as error:
        raise UsageError(f"{clean_line(argument, 60)}: {error}", "Put the folder's name into quotes.") from error
    if len(rest) > 1:
        raise UsageError(f"{len(rest) + 1} names: a model and an adapter at most", "Put names with spaces into quotes.")
    model = None if name == figures.EMBEDDED else str(expanded(name)) if name.startswith("~") else name
    return Load(model, str(expanded(rest[0])) if rest else None)


def _compare(session: Session, argument: str) -> Reply:
    if not argument:
        raise UsageError("/compare: with which model?", "Name it, or an adapter behind it: /compare MODEL [ADAPTER].")
    compare(session, named(argument))
    return Reply(screen="compare")


def _model(session: Session, argument: str) -> Reply:
    if not argument:
        if session.model is None or session.crashed:
            session.load()
            return Reply("loading the small model of this package")
        return Reply(figures.model_lines(session.model))
    load = named(argument)
    session.load(load.model, load.adapter)
    return Reply(f"loading {figures.model_name_of(load)}")


def _set(session: Session, argument: str) -> Reply:
    name, _, value = argument.partition(" ")
    if not name:
        return Reply("\n".join(settings_lines(session)), screen="settings")
    if not value.strip():
        return Reply(f"{setting_name(name)} = {session.settings.spelled(name)}: {about(name)}")
    session.set(name, value)
    when = " from the next start on; /model loads one now" if setting_name(name) in ("model", "adapter") else ""
    return Reply(f"{setting_name(name)} = {session.settings.spelled(name)}{when}")


def settings_lines(session: Session) -> list[str]:
    """All settings, with what they are."""
    return [f"{name:14} {clean_line(session.settings.spelled(name), 24):24} {about(name)}" for name in names()]


def _context(session: Session, _: str) -> Reply:
    if session.counted is None:
        return Reply("nothing was counted yet")
    return Reply("\n".join(figures.context_lines(session.counted, session.settings.max_tokens)))


def _stats(session: Session, _: str) -> Reply:
    answers = [node.facts for node in session.conversation.answers if node.facts]
    return Reply("\n".join(figures.stats_lines(answers[-1])) if answers else "there is no answer yet")


def _tokens(session: Session, _: str) -> Reply:
    return Reply("\n".join(figures.token_lines(session.noted.tokens)), screen="tokens")


def _instead(session: Session, argument: str) -> Reply:
    place, _, rank = argument.partition(" ")
    answer = session.noted
    at, which = number(place), number(rank.strip())
    likely = figures.choices(answer.tokens[at - 1]) if 1 <= at <= len(answer.tokens) else ()
    if not 1 <= which <= len(likely):
        raise UsageError(f"/instead {argument}: there is no such token", "/tokens lists them.")
    session.instead(answer, at - 1, likely[which - 1])
    return Reply()


def _eyes(session: Session, argument: str) -> Reply:
    if session.model is None or not session.images():
        raise UsageError("there is no picture, or no model yet", "/image PATH attaches one.")
    from mlx_llava.tui.images import eyes

    model = eyes.with_fit(session.model, session.settings.fit)
    lines = [
        f"{shown.number}  {clean_line(shown.image.name, 40)}: {model.fit}, "
        f"{eyes.loss(shown.image.size, model.fit)}; {eyes.tokens(model, None)}"
        for shown in session.images()
    ]
    return Reply("\n".join(lines), screen="eyes")


def _cover(session: Session, argument: str) -> Reply:
    asked = len(session.images()) - len(session.draft.images)
    which, *sides = argument.split() or [str(max(asked, 1))]
    shown = session.image(number(which))
    if not shown.on:
        raise UsageError(f"picture {shown.number} is off", f"/on {shown.number} shows it again.")
    if session.model is None or shown.node is session.draft:
        raise UsageError("nothing was asked about that picture yet", "Ask first, then cover a part of it.")
    if not sides:
        return Reply("which part? /cover N LEFT TOP RIGHT BOTTOM, in per cent", screen=f"cover {shown.number}")
    box = rectangle([number(side) for side in sides], shown.image.size)
    cover(session, shown, covered(shown.image, box, neutral(session.model.mean)))
    return Reply(screen="compare")


def rectangle(sides: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom in pixels, from per cent of a picture's width and height."""
    if len(sides) != 4 or not (sides[0] < sides[2] <= 100 and sides[1] < sides[3] <= 100):
        raise UsageError("no rectangle", "Say left, top, right and bottom in per cent: /cover 1 0 0 50 100.")
    left, top, right, bottom = (round(side * size[n % 2] / 100) for n, side in enumerate(sides))
    return left, top, right, bottom


def _look(session: Session, argument: str) -> Reply:
    seen(session)
    return Reply(screen=f"look {number(argument) if argument else ''}".strip())


def _quit(_: Session, __: str) -> Reply:
    return Reply(quit=True)


TABLE = (
    Command("image", "/image PATH|URL …", "attach pictures to the next question", _image),
    Command("paste", "/paste", "attach the picture on the clipboard", _paste),
    Command("pictures", "/pictures", "list the pictures of this chat", _images),
    Command("off", "/off N", "hide a picture from the model, and save its tokens", _switch(False)),
    Command("on", "/on N", "show it again", _switch(True)),
    Command("drop", "/drop N", "take a picture out of the draft", _drop),
    Command("again", "/again", "answer the last question once more", _again),
    Command("edit", "/edit [N]", "ask question N, or the last one, in other words", _edit),
    Command("correct", "/correct [TEXT]", "put your words in place of the last answer, to tune on", _correct),
    Command("branch", "/branch [previous] [N]", "show another answer, or another form of question N", _branch),
    Command("copy", "/copy [code]", "copy the last answer, or its last code block", _copy),
    Command("new", "/new", "begin a new chat", _new),
    Command("eyes", "/eyes", "pictures as the model sees them", _eyes),
    Command("cover", "/cover [N] [BOX]", "cover a part of picture N or the last one, ask again", _cover),
    Command("look", "/look [N]", "where the last answer looked, or its token N", _look),
    Command("model", "/model [NAME] [ADAPTER]", "tell of the model, or load another: a folder, a repository", _model),
    Command("compare", "/compare MODEL [ADAPTER]", "have another model answer the last question too", _compare),
    Command("set", "/set [NAME VALUE]", "show or change settings", _set),
    Command("context", "/context", "what fills the context", _context),
    Command("stats", "/stats", "what the last answer took", _stats),
    *KEEPING,
    Command("tokens", "/tokens", "how sure each word was, what else was likely; /set alternatives on", _tokens),
    Command("instead", "/instead N K", "go on from token N with the K-th that was likely there: /tokens", _instead),
    Command("help", "/help", "this list", _help),
    Command("quit", "/quit", "leave", _quit),
)
COMMANDS = {command.name: command for command in TABLE}
ALIASES = {"bye": "quit", "exit": "quit", "q": "quit", "?": "help", "h": "help", "clear": "new", "regenerate": "again"}
