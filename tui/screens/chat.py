"""The chat: the conversation above, the composer below. Shows a session and passes on what a person wants."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import MountError, Widget
from textual.widgets import Static

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    Ask,
    Choice,
    Crashed,
    Event,
    Failed,
    Loaded,
    MapAttention,
    ModelFacts,
)
from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.images.cover import Patches, covered, neutral
from mlx_llava.tui.session import commands, figures
from mlx_llava.tui.session.comparison import cover
from mlx_llava.tui.session.conversation import Node, Numbered, code_blocks
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.widgets.composer import Composer
from mlx_llava.tui.widgets.image_view import ImageView
from mlx_llava.tui.widgets.log import Log
from mlx_llava.tui.widgets.prompt import Prompt
from mlx_llava.tui.widgets.status import Status
from mlx_llava.tui.widgets.turns import AnswerTurn, Wish
from mlx_llava.tui.window import window

PAUSE = 0.05  # seconds between two looks at what the engine says
SHARE = 7  # of the time that the last look took: at most a seventh of a core, unless that were too seldom
LONGEST = 0.5  # seconds between two looks, however much there is to draw
TWICE = 2.0  # seconds in which a second Ctrl+C leaves


class ChatScreen(Screen[None]):
    """Shows one session."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False),
        Binding("ctrl+r", "again", "Answer again"),
        Binding("ctrl+n", "command('/new')", "New chat"),
        Binding("pageup", "page(-1)", "Scroll", show=False, priority=True),
        Binding("pagedown", "page(1)", "Scroll", show=False, priority=True),
        Binding("alt+left", "command('/branch previous')", "Other branch", show=False, priority=True),
        Binding("alt+right", "command('/branch next')", "Other branch", show=False, priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()  # set while an answer is being stopped
        self._interrupted = float("-inf")

    def compose(self) -> Iterable[Widget]:
        """Title, conversation, composer, state."""
        with Horizontal(id="top"):
            yield Static("mlx-llava", markup=False, classes="title")
            yield Static("", markup=False, classes="where")
        yield Log()
        yield Composer(self.session)
        yield Status()

    def on_mount(self) -> None:
        """Listen to the engine."""
        self.pump()

    @work(group="begin")
    async def begin(self, opening: Opening) -> None:
        """Go on in a chat, attach the first pictures, ask the first question."""
        self.refresh_state()
        if opening.chat is not None:
            await self.open_chat(opening.chat)
        self.composer.attach(opening.images)
        if opening.question:
            self.send(opening.question)

    @property
    def composer(self) -> Composer:
        """Where a question is put together."""
        return self.query_one(Composer)

    @property
    def log_view(self) -> Log:
        """The conversation."""
        return self.query_one(Log)

    # what the engine says

    def wake(self) -> None:
        """There are events."""
        self._woken.set()

    @work(exclusive=True, group="pump")
    async def pump(self) -> None:
        """Show events as they come, never more often than the screen can bear."""
        busy = time.thread_time()
        while True:
            await self._woken.wait()
            self._woken.clear()
            # where the screen is going away
            with contextlib.suppress(NoMatches, MountError):
                await self._listen()
            used, busy = time.thread_time() - busy, time.thread_time()  # layout and paint of the last time included
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), min(max(PAUSE, SHARE * used), LONGEST))
                await asyncio.sleep(PAUSE / 5)

    async def _listen(self) -> None:
        writing = self.session.answering
        events = self.session.receive()
        if writing and any(isinstance(event, AnswerPiece) for event in events):
            await self._grow(writing.node)
        for event in events:
            await self._show(event, writing.node if writing else None)
        if not self.session.answering:
            self._hurry.clear()
        self.refresh_state()

    async def _grow(self, node: Node) -> None:
        turn = self.log_view.turn(node)
        if isinstance(turn, AnswerTurn):
            await turn.grow()

    async def _show(self, event: Event, answer: Node | None) -> None:
        match event:
            case AnswerFinished() if answer:
                turn = self.log_view.turn(answer)
                if isinstance(turn, AnswerTurn) and answer.text:
                    await turn.finish()
                await self.redraw()
            case Failed(request=Ask()):
                await self.redraw()
                await self.note(f"{event.problem}\n{event.advice}", error=True)
            case Failed(request=request) if not isinstance(request, MapAttention):  # which its own screen tells of
                self.composer.tell(LlavaError(event.problem, event.advice))
            case Crashed():
                await self.redraw()
                await self.note(f"The model's thread ended: {event.problem}\n/model starts it again.", error=True)
            case Loaded():
                await self.redraw()

    # what a person does

    @on(Composer.Asked)
    def asked(self, event: Composer.Asked) -> None:
        """A question was sent."""
        self.send(event.text)

    @on(Composer.Commanded)
    def commanded(self, event: Composer.Commanded) -> None:
        """A command was sent."""
        self.action_command(event.line)

    @work(group="send")
    async def send(self, text: str) -> None:
        """Ask, once all pictures are read."""
        composer = self.composer
        await composer.settled()
        await self.clear_note()
        try:
            edited = self.session.editing
            if edited and edited.role == "assistant":
                await self._correct(edited, text)
            else:
                self.session.ask(text)
        except LlavaError as error:
            composer.fill(text)
            composer.tell(error)
            return
        composer.edit(None)
        self.log_view.anchor()
        await self.redraw()

    async def _correct(self, answer: Node, text: str) -> None:
        self.session.correct(answer, text)
        turn = self.log_view.turn(answer)
        if isinstance(turn, AnswerTurn):
            await turn.finish()

    @work(group="command")
    async def action_command(self, line: str) -> None:
        """Carry out a slash command."""
        await self.clear_note()
        theme = self.session.settings.theme
        try:
            reply = commands.run(self.session, line)
            self._use_theme(theme)
        except LlavaError as error:
            self.composer.tell(error)
            return
        await self.redraw()
        await self._fulfil_reply(reply)

    def _use_theme(self, before: str) -> None:
        """Use the theme of the settings; UsageError, and the one before, where there is none of a new name."""
        theme, known = self.session.settings.theme, self.app.available_themes
        if theme in known:
            self.app.theme = theme
        elif theme != before:
            self.session.set("theme", self.app.theme)
            raise UsageError(f"{clean_line(theme, 40)}: no such theme", f"There are {', '.join(sorted(known))}.")

    async def _fulfil_reply(self, reply: commands.Reply) -> None:
        if reply.quit:
            self.app.exit(0)
        if reply.copy is not None:
            window(self).copy_out(reply.copy)
        if reply.fill is not None:
            self.composer.edit(reply.edited, reply.fill)
        self.composer.attach(reply.attach, reply.fetched, pasted=reply.pasted)
        if reply.opened is not None:
            await self.open_chat(reply.opened)
        if reply.screen:
            window(self).open(reply.screen)
        elif "\n" in reply.text:
            await self.note(reply.text)
        elif reply.text:
            self.notify(clean(reply.text), markup=False)

    def interrupt(self) -> None:
        """Ctrl+C: stop the answer, else empty the prompt, else leave when pressed twice."""
        prompt = self.composer.prompt
        if self.session.answering and not self._hurry.is_set():
            self.stop_answer()
        elif prompt.text and self.app.screen is self and not self.session.answering:
            prompt.put("")
        elif time.monotonic() - self._interrupted < TWICE:
            self.app.exit(130)
        else:
            self._interrupted = time.monotonic()
            self.notify("Press Ctrl+C again to leave.", timeout=TWICE)

    @on(Prompt.ImageWanted)
    def choose_image(self) -> None:
        """Let a picture be chosen; where none is, @ is a letter."""
        window(self).open("@")

    @on(Wish)
    async def fulfil(self, event: Wish) -> None:
        """Do what is wanted of a turn."""
        match event.what:
            case "edit":
                self.composer.edit(event.node, event.node.text)
            case "again":
                await self._again(event.node.parent)
            case "copy":
                window(self).copy_out(event.node.text)
                self.notify("Copied.")
            case "code":
                self._copy_code(event.node)
            case "previous" | "next":
                await self._choose(event.node, 1 if event.what == "next" else -1)

    async def _choose(self, node: Node, step: int) -> None:
        await self.clear_note()
        try:
            self.session.choose(node, step)
        except LlavaError as error:
            self.composer.tell(error)
        await self.redraw()

    def action_stop(self) -> None:
        """Stop the answer, or leave editing, or go back to the prompt."""
        if self.session.answering:
            self.stop_answer()
        elif self.session.editing:
            self.composer.edit(None)
            self.composer.prompt.put("")
        self.composer.prompt.focus()

    async def action_again(self) -> None:
        """Answer the last question once more."""
        questions = self.session.conversation.questions
        await self._again(questions[-1] if questions else None)

    async def _again(self, question: Node | None) -> None:
        if question is not None:
            await self._begin_answer(partial(self.session.answer, question))

    @work(group="send")
    async def go_on_instead(self, answer: Node, chosen: tuple[int, Choice] | None) -> None:
        """Answer anew from a token that might have been."""
        if chosen is not None:
            await self._begin_answer(partial(self.session.instead, answer, *chosen))

    @work(group="send")
    async def cover_and_ask(self, shown: Numbered, model: ModelFacts, patches: Patches | None) -> None:
        """Ask again with a part of a picture covered."""
        if patches is None:
            return
        box = patches.box(shown.image.size, model.fit)
        try:
            if box[0] >= box[2] or box[1] >= box[3]:
                raise UsageError("there is only padding", "Move the rectangle onto the picture.")
            image = await asyncio.to_thread(covered, shown.image, box, neutral(model.mean))
            cover(self.session, shown, image)
        except LlavaError as error:
            self.composer.tell(error)
            return
        await self.redraw()
        window(self).open("compare")

    async def _begin_answer(self, begin: Callable[[], Node]) -> None:
        await self.clear_note()
        try:
            begin()
        except LlavaError as error:
            self.composer.tell(error)
        self.log_view.anchor()
        await self.redraw()

    def action_page(self, step: int) -> None:
        """Scroll the conversation by a page."""
        log = self.log_view
        log.action_page_up() if step < 0 else log.action_page_down()

    def _copy_code(self, node: Node) -> None:
        blocks = code_blocks(node.text)
        if blocks:
            window(self).copy_out(blocks[-1])
        self.notify("The last code block was copied." if blocks else "There is no code block.")

    async def open_chat(self, key: int) -> None:
        """Go on in a chat of the history."""
        try:
            conversation = await asyncio.to_thread(self.session.record.open, key)
            self.session.resume(key, conversation)
        except LlavaError as error:
            self.composer.tell(error)
        self.log_view.anchor()
        await self.redraw()

    # what is shown

    def stop_answer(self) -> None:
        """Stop the answer, and show its end without delay."""
        self.session.stop()
        self._hurry.set()

    async def redraw(self) -> None:
        """Show the session as it is now."""
        await self.log_view.show_images(self.session.settings.images != "off")
        for view in self.query(ImageView):
            view.refresh()  # they may be drawn otherwise now
        await self.log_view.show(self.session.conversation)
        await self.composer.show()
        self.refresh_state()

    def refresh_state(self) -> None:
        """Show title, state and warnings as they are now."""
        questions = self.session.conversation.questions
        title = clean_line(self.session.record.title or (questions[0].text if questions else "") or "mlx-llava", 200)
        self.query_one("#top .title", Static).update(title)
        model = self.session.model
        where = f"{clean_line(figures.model_name(model), 40)} · {clean_line(model.device, 24)}" if model else ""
        hidden = "nothing is kept · " if self.session.record.incognito else ""
        self.query_one("#top .where", Static).update(hidden + where)
        self.query_one(Status).show(self.session)
        for trouble in self.session.record.take_trouble():
            self.notify(clean_line(trouble, 400), severity="warning", markup=False, timeout=8)
        self.composer.warn()

    async def clear_note(self) -> None:
        """Take away what was said beside the conversation."""
        await self.log_view.query(".note").remove()

    async def note(self, text: str, error: bool = False) -> None:
        """Say something in the conversation that is no part of it."""
        await self.clear_note()
        await self.log_view.mount(Static(clean(text), markup=False, classes="note -error" if error else "note"))
        self.log_view.anchor()
