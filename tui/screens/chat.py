"""The chat: carries out what the user does with keys, commands and turns."""

import asyncio
import time
from functools import partial
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.screens.chat_dialogs import ChatDialogs
from mlx_llava.tui.session import commands, dialogs
from mlx_llava.tui.session.conversation import Node, code_blocks
from mlx_llava.tui.session.reply import Attach, Copy, Edit, Open, OpenChat, Quit, Reply, Say
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.widgets.composer import Composer
from mlx_llava.tui.widgets.prompt import Prompt
from mlx_llava.tui.widgets.turns import TurnAction
from mlx_llava.tui.window import window

TWICE = 2.0  # seconds in which a second Ctrl+C leaves


class ChatScreen(ChatDialogs):
    """The chat in use."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False),
        Binding("ctrl+r", "again", "Answer again"),
        Binding("ctrl+n", "command('/new')", "New chat"),
        Binding("pageup", "page(-1)", "Scroll", show=False, priority=True),
        Binding("pagedown", "page(1)", "Scroll", show=False, priority=True),
        Binding("alt+left", "command('/branch previous')", "Previous branch", show=False, priority=True),
        Binding("alt+right", "command('/branch next')", "Next branch", show=False, priority=True),
    ]

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._interrupted = float("-inf")

    @work(group="begin")
    async def begin(self, opening: Opening) -> None:
        """Continue a chat, attach the first images, ask the first question."""
        self.refresh_state()
        if opening.chat is not None:
            await self.open_chat(opening.chat)
        self.composer.attach(opening.images, opening.urls, opening.question)

    @on(Composer.Asked)
    def send_question(self, event: Composer.Asked) -> None:
        self.send(event.text)

    @on(Composer.Commanded)
    def run_command(self, event: Composer.Commanded) -> None:
        self.action_command(event.line)

    @work(group="send")
    async def send(self, text: str) -> None:
        """Ask, or finish editing an answer, once all images are read."""
        composer = self.composer
        await composer.settled()
        await self.log_view.clear_note()
        try:
            if answer := self.session.draft.answer:
                self.session.correct(answer, text)
                await self.finish_turn(answer)
            else:
                self.session.ask(text)
        except LlavaError as error:
            composer.fill(text)
            composer.report(error)
            return
        composer.edit(None)
        self.log_view.anchor()
        await self.redraw()

    @work(group="command")
    async def action_command(self, line: str) -> None:
        await self.log_view.clear_note()
        theme = self.session.settings.theme
        try:
            reply = commands.run(self.session, line)
            self._use_theme(theme)
        except LlavaError as error:
            self.composer.report(error)
            return
        await self.redraw()
        if reply:
            await self._carry_out(reply)

    def _use_theme(self, before: str) -> None:
        """Use the theme of the settings; UsageError, and the theme from before, if a new one does not exist."""
        theme, themes = self.session.settings.theme, self.app.available_themes
        if theme in themes:
            self.app.theme = theme
        elif theme != before:
            self.session.set("theme", self.app.theme)
            raise UsageError(f"{clean_line(theme, 40)}: no such theme", f"There are {', '.join(sorted(themes))}.")

    async def _carry_out(self, reply: Reply) -> None:
        match reply:
            case Quit():
                self.app.exit(0)
            case Attach():
                self.composer.attach(reply.paths, reply.urls, clipboard=reply.clipboard)
            case Copy():
                self._copy(reply.text, reply.message)
            case Edit():
                self.composer.edit(reply.node, reply.text)
            case OpenChat():
                await self.open_chat(reply.key)
            case Open():
                self.open(reply.dialog)
            case Say():
                await self._say(reply.text, reply.changed)

    async def _say(self, text: str, changed: Node | None) -> None:
        if changed:
            await self.finish_turn(changed)
        if "\n" in text:
            await self.log_view.note(text)
        else:
            self.notify(clean(text), markup=False)

    def _copy(self, text: str, message: str) -> None:
        window(self).copy_out(text)
        self.notify(message)

    async def open_chat(self, key: int) -> None:
        try:
            conversation = await asyncio.to_thread(self.session.record.open, key)
            self.session.resume(key, conversation)
        except LlavaError as error:
            self.composer.report(error)
        self.log_view.anchor()
        await self.redraw()

    def interrupt(self) -> None:
        """Ctrl+C: stop the answer, or empty the prompt, or leave if pressed twice."""
        prompt = self.composer.prompt
        if self.session.answering and not self.pump.hurry.is_set():
            self._stop_answer()
        elif prompt.text and self.app.screen is self and not self.session.answering:
            prompt.put("")
        elif time.monotonic() - self._interrupted < TWICE:
            self.app.exit(130)
        else:
            self._interrupted = time.monotonic()
            self.notify("Press Ctrl+C again to leave.", timeout=TWICE)

    def action_stop(self) -> None:
        """Stop the answer, or stop editing; focus the prompt."""
        if self.session.answering:
            self._stop_answer()
        elif self.session.draft.editing:
            self.composer.edit(None)
            self.composer.prompt.put("")
        self.composer.prompt.focus()

    def _stop_answer(self) -> None:
        self.session.stop()
        self.pump.hurry.set()

    @on(Prompt.ImageWanted)
    def choose_image(self) -> None:
        """Choose an image file; without one, @ stays a letter."""
        self.open(dialogs.Files("@"))

    @on(TurnAction)
    async def act_on_turn(self, event: TurnAction) -> None:
        node = event.node
        match event.name:
            case "edit":
                self.composer.edit(node, node.text)
            case "again" if node.parent:
                await self.change(partial(self.session.answer, node.parent))
            case "copy":
                self._copy(node.text, "Copied.")
            case "code" if blocks := code_blocks(node.text):
                self._copy(blocks[-1], "The last code block was copied.")
            case "code":
                self.notify("There is no code block.")
            case "previous" | "next":
                await self.change(partial(self.session.choose, node, 1 if event.name == "next" else -1), anchor=False)

    async def action_again(self) -> None:
        if self.session.conversation.questions:
            await self.change(self.session.again)

    def action_page(self, step: int) -> None:
        log = self.log_view
        log.action_page_up() if step < 0 else log.action_page_down()
