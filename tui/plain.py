"""The chat as plain lines, for screen readers, pipes and simple terminals.

Answers go to stdout, everything else to stderr. Nothing moves and nothing is overwritten.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlx_llava.engine import messages
from mlx_llava.errors import LlavaError, ModelError
from mlx_llava.program.signals import interruptible
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.images.attachments import from_clipboard, from_file, from_url
from mlx_llava.tui.images.clipboard import copy
from mlx_llava.tui.images.dropped import Drop, parse_drop
from mlx_llava.tui.session import commands, dialogs, figures
from mlx_llava.tui.session.attention import AttentionEvent
from mlx_llava.tui.session.reply import Attach, Copy, Edit, Open, OpenChat, Quit, Reply, Say
from mlx_llava.tui.session.session import Opening, Session

WAIT = 1.0  # seconds between two polls of the engine without a wake-up
BYTE_ORDER_MARK = "\ufeff"
FENCE = '"""'  # around a question of several lines


class Talk:
    """One chat in lines; `interactive` at a terminal."""

    def __init__(self, session: Session, interactive: bool) -> None:
        self.session = session
        self.interactive = interactive
        self.code = 0
        self._woken = threading.Event()
        session.engine.notify(self._woken.set)

    def line(self, line: str) -> bool:
        """Handle a typed line; returns False to quit."""
        try:
            if commands.is_command(line):
                return self._command(line)
            drop = Drop(text=line) if self.session.draft.answer else parse_drop(line)
            self.attach(drop.paths, drop.urls)
            if question := drop.text.strip():
                self.ask(question)
        except LlavaError as error:
            self.report(error.problem, error.advice)
        return True

    def ask(self, question: str) -> None:
        """Ask, or finish an edit, and print the answer."""
        if answer := self.session.draft.answer:
            self.session.correct(answer, question)
            self.session.draft.edit(None)
        else:
            self.session.ask(question)
        self.listen()

    def attach(self, paths: Sequence[Path], urls: Sequence[str] = (), *, clipboard: bool = False) -> None:
        """Attach images to the next question."""
        for image in (*map(from_file, paths), *map(from_url, urls), *([from_clipboard()] if clipboard else [])):
            self.session.draft.attach(image)
            width, height = image.size
            number = len(self.session.images())
            self.say(f"picture {number}: {clean_line(image.name)}, {width} by {height}")

    def map_attention(self, token: int | None) -> None:
        """Print the attention of a token of the last answer, or of all, as digits."""
        from mlx_llava.tui.images.heat import number_lines

        names = [image.image.name for image in self.session.attention_subject().images]

        def show(event: AttentionEvent) -> None:
            if isinstance(event, messages.AttentionMapped):
                self.say("\n".join(number_lines(event, names, token)))

        self.session.map_attention(show)

    def open(self, key: int) -> None:
        """Continue a saved chat, and print it."""
        self.session.resume(key, self.session.record.open(key))
        for node in self.session.conversation.path():
            self.say(f"{'question' if node.role == 'user' else 'answer'}: {node.text}")

    def listen(self) -> None:
        """Print events until the engine is idle; Ctrl-C stops an answer."""
        session = self.session
        while session.engine.busy or session.comparing:
            try:
                self._woken.wait(WAIT)
                self._woken.clear()
                for event in session.receive():
                    self._show(event)
            except KeyboardInterrupt:
                if not (session.answering or session.engine.attention):
                    raise
                session.engine.cancel_attention()
                session.stop()
        for trouble in session.record.take_trouble():
            self.say(trouble)

    def say(self, text: str) -> None:
        """Print a line that is not part of an answer."""
        print(clean(text), file=sys.stderr, flush=True)

    def report(self, problem: str, advice: str) -> None:
        self.code = 1
        self.say(f"error: {clean_line(problem, 400)}\n{clean_line(advice, 400)}")

    def _show(self, event: messages.Event) -> None:
        match event:
            case messages.Loading():
                self.say(f"loading {clean_line(event.name)}")
            case messages.Loaded():
                self.say(f"ready: {clean_line(figures.model_name(event.model))}")
            case messages.AnswerPiece():
                print(clean(event.text), end="", flush=True)
            case messages.AnswerFinished():
                print(flush=True)
                self.session.count("")
                if self.interactive:
                    self.say(figures.answer_line(vars(event)))
            case messages.Failed():
                self._fail(event)
            case messages.Crashed():
                self.report(f"the engine crashed: {event.problem}", "/model starts it again.")

    def _fail(self, event: messages.Failed) -> None:
        if isinstance(event.request, messages.Load) and not self.interactive:
            raise ModelError(event.problem, event.advice)
        self.report(event.problem, event.advice)

    def _command(self, line: str) -> bool:
        reply = commands.run(self.session, line)
        if reply:
            self._carry_out(reply)
        self.listen()
        return not isinstance(reply, Quit)

    def _carry_out(self, reply: Reply) -> None:
        match reply:
            case Attach():
                self.attach(reply.paths, reply.urls, clipboard=reply.clipboard)
            case Copy():
                if not copy(reply.text):
                    raise LlavaError("there is no clipboard program", "Install wl-clipboard or xclip.")
                self.say(reply.message)
            case Edit():
                self.session.draft.edit(reply.node)
                self.say(f"it was: {reply.text}\ntype the new text")
            case OpenChat():
                self.open(reply.key)
            case Open(dialog=dialogs.Attention(token=token)):
                self.map_attention(token)
            case Say() | Open() if reply.text:
                self.say(reply.text)


@interruptible()
def talk(session: Session, opening: Opening) -> int:
    """Chat until the input ends; returns the exit code."""
    chat = Talk(session, sys.stdin.isatty())
    session.engine.start()
    session.load(opening.load or messages.Load())
    try:
        chat.listen()
        if opening.chat is not None:
            chat.open(opening.chat)
        chat.attach(opening.images, opening.urls)
        going = not opening.question or chat.line(opening.question)
        for line in lines(chat.interactive) if going else ():
            if not chat.line(line):
                break
    finally:
        session.close()
    return 0 if chat.interactive else chat.code


def lines(interactive: bool) -> Iterator[str]:
    """Yield typed lines; several between triple quotes count as one."""
    if interactive:
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - makes input() editable
    mark = "" if interactive else BYTE_ORDER_MARK  # of a file, not of its first question
    while True:
        try:
            line, mark = input("> " if interactive else "").removeprefix(mark), ""
            if line.strip().startswith(FENCE):
                parts = [line.strip().removeprefix(FENCE)]
                with contextlib.suppress(EOFError):  # the end of the input ends the question too
                    while not parts[-1].rstrip().endswith(FENCE):
                        parts.append(input())
                line = "\n".join(parts).rstrip().removesuffix(FENCE)
            yield line
        except EOFError:
            return
