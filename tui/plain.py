"""The chat as lines of text: for screen readers, pipes and terminals that can do no more.

Answers go to stdout, everything else to stderr. Nothing moves, nothing is drawn, nothing is overwritten.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AttentionMapped,
    Crashed,
    Event,
    Failed,
    Load,
    Loaded,
    Loading,
)
from mlx_llava.errors import LlavaError, ModelError
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.images.attachments import from_clipboard, from_file, from_url
from mlx_llava.tui.images.clipboard import copy
from mlx_llava.tui.images.dropped import dropped
from mlx_llava.tui.session import attention, commands, figures
from mlx_llava.tui.session.session import Opening, Session

LOOK = 1.0  # seconds between two looks when nothing wakes us
FENCE = '"""'  # begins and ends a question of several lines


class Talk:
    """One chat in lines; `interactive` where a person types."""

    def __init__(self, session: Session, interactive: bool) -> None:
        self.session = session
        self.interactive = interactive
        self.code = 0
        self._woken = threading.Event()
        session.engine.notify = self._woken.set

    def line(self, line: str) -> bool:
        """Carry out a line that was typed; whether to go on."""
        try:
            if commands.is_command(line):
                return self._command(line)
            found = dropped(line)
            if found.paths or found.urls:
                self.attach(found.paths, found.urls)
            elif line.strip():
                self.ask(line.strip())
        except LlavaError as error:
            self.tell(error.problem, error.advice)
        return True

    def ask(self, question: str) -> None:
        """Ask, or ask anew what is being edited, and print the answer."""
        edited = self.session.editing
        if edited and edited.role == "assistant":
            self.session.correct(edited, question)
            self.session.edit(None)
        else:
            self.session.ask(question)
        self.listen()

    def attach(self, paths: Sequence[Path], urls: Sequence[str] = (), *, pasted: bool = False) -> None:
        """Put pictures beside the next question, also that on the clipboard."""
        for image in (*map(from_file, paths), *map(from_url, urls), *([from_clipboard()] if pasted else [])):
            self.session.attach(image)
            width, height = image.size
            number = len(self.session.images())
            self.say(f"picture {number}: {clean_line(image.name)}, {width} by {height}")

    def look(self, token: int | None) -> None:
        """Print where the last answer looked, or one of its tokens, in numbers."""
        from mlx_llava.tui.images.heat import number_lines

        names = [shown.image.name for shown in attention.seen(self.session)[1]]

        def told(event: attention.LookEvent) -> None:
            if isinstance(event, AttentionMapped):
                self.say("\n".join(number_lines(event, names, token)))

        attention.look(self.session, told)

    def open(self, key: int) -> None:
        """Go on in a chat of the history, and print it."""
        self.session.resume(key, self.session.record.open(key))
        for node in self.session.conversation.path():
            self.say(f"{'question' if node.role == 'user' else 'answer'}: {node.text}")

    def listen(self) -> None:
        """Print what the engine says until it has nothing more to do; Ctrl-C stops an answer."""
        session = self.session
        while session.answering or session.loading or session.counting or session.comparing or session.looking:
            try:
                self._woken.wait(LOOK)
                self._woken.clear()
                for event in self.session.receive():
                    self._show(event)
            except KeyboardInterrupt:
                if not (session.answering or session.looking):
                    raise
                attention.look_away(session)
                session.stop()
        for trouble in self.session.record.take_trouble():
            self.say(trouble)

    def say(self, text: str) -> None:
        """Print a line that is no answer."""
        print(clean(text), file=sys.stderr, flush=True)

    def tell(self, problem: str, advice: str) -> None:
        """Print an error."""
        self.code = 1
        self.say(f"error: {clean_line(problem, 400)}\n{clean_line(advice, 400)}")

    def _show(self, event: Event) -> None:
        match event:
            case Loading():
                self.say(f"loading {clean_line(event.name)}")
            case Loaded():
                self.say(f"ready: {clean_line(figures.model_name(event.model))}")
            case AnswerPiece():
                print(clean(event.text), end="", flush=True)
            case AnswerFinished():
                print(flush=True)
                self.session.count("")
                if self.interactive:
                    self.say(figures.answer_line(vars(event)))
            case Failed():
                self._fail(event)
            case Crashed():
                self.tell(f"the model's thread ended: {event.problem}", "/model starts it again.")

    def _fail(self, event: Failed) -> None:
        if isinstance(event.request, Load) and not self.interactive:
            raise ModelError(event.problem, event.advice)
        self.tell(event.problem, event.advice)

    def _command(self, line: str) -> bool:
        reply = commands.run(self.session, line)
        if reply.copy is not None and not copy(reply.copy):
            raise LlavaError("there is no program for the clipboard", "Install wl-clipboard or xclip.")
        if reply.text:
            self.say(reply.text)
        self.attach(reply.attach, reply.fetched, pasted=reply.pasted)
        if reply.opened is not None:
            self.open(reply.opened)
        if reply.screen and reply.screen.startswith("look"):
            token = reply.screen.removeprefix("look").strip()
            self.look(int(token) - 1 if token else None)
        if reply.fill is not None:
            self.session.edit(reply.edited)
            self.say(f"it was: {reply.fill}\ntype it anew")
        self.listen()
        return not reply.quit


def talk(session: Session, opening: Opening) -> int:
    """Chat until the input ends; the exit code."""
    chat = Talk(session, sys.stdin.isatty())
    session.start()
    load = opening.load or Load()
    session.load(load.model, load.adapter, load.revision)
    try:
        chat.listen()
        if opening.chat is not None:
            chat.open(opening.chat)
        chat.attach(opening.images)
        going = not opening.question or chat.line(opening.question)
        for line in lines(chat.interactive) if going else ():
            if not chat.line(line):
                break
    finally:
        session.close()
    return 0 if chat.interactive else chat.code


def lines(interactive: bool) -> Iterator[str]:
    """What is typed: lines, or several between three quotes."""
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - makes input() editable
    while True:
        try:
            line = input("> " if interactive else "")
            if line.strip().startswith(FENCE):
                parts = [line.strip().removeprefix(FENCE)]
                with contextlib.suppress(EOFError):  # what there is of it is asked
                    while not parts[-1].rstrip().endswith(FENCE):
                        parts.append(input())
                line = "\n".join(parts).rstrip().removesuffix(FENCE)
            yield line
        except EOFError:
            return
