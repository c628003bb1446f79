"""The input below the conversation: prompt, images, command hints."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Static, TextArea

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.attachments import Attachment, from_clipboard, from_file, from_url
from mlx_llava.tui.images.dropped import Drop, parse_drop
from mlx_llava.tui.session import commands, figures
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.chips import Chip, Chips
from mlx_llava.tui.widgets.prompt import Prompt

COUNT_AFTER = 0.2  # seconds without a key before tokens are counted
HINTS = 8  # commands shown at a time


class Composer(Vertical):
    """Puts a question together."""

    @dataclass
    class Asked(Message):
        """A question was sent; its images are in the draft."""

        text: str

    @dataclass
    class Commanded(Message):
        line: str

    def __init__(self, session: Session) -> None:
        super().__init__(id="composer")
        self.session = session
        self.reading = 0
        """Number of attachments being read."""

    def compose(self) -> ComposeResult:
        yield Static("", markup=False, id="hints")
        yield Chips()
        yield Prompt()

    def on_mount(self) -> None:
        self._counting = self.set_timer(COUNT_AFTER, self._count, pause=True)
        self.prompt.focus()

    @property
    def prompt(self) -> Prompt:
        return self.query_one(Prompt)

    def fill(self, text: str) -> None:
        self.prompt.put(text)
        self.prompt.focus()

    def edit(self, node: Node | None, text: str = "") -> None:
        """Edit a question or an answer; None ends editing."""
        self.session.draft.edit(node)
        if node or text:
            self.fill(text)
        self.call_later(self.show)

    async def show(self) -> None:
        """Show the current images, warnings and editing state."""
        session, edited = self.session, self.session.draft.editing
        titles = {"user": "Editing a question: Enter asks it again", "assistant": "Editing an answer: Enter saves it"}
        self.prompt.border_title = f"{titles[edited.role]}, Esc cancels" if edited else ""
        tokens = session.model.image_tokens if session.model else None
        await self.query_one(Chips).show(session.images(), session.draft.node, tokens)
        self.warn()
        self.count_soon()

    def warn(self) -> None:
        usage = self.session.engine.usage
        warning = figures.context_warning(usage, self.session.settings.max_tokens) if usage else ""
        self.prompt.border_subtitle = warning
        self.prompt.set_class(bool(warning), "-warning")

    def attach(
        self, paths: Iterable[Path] = (), urls: Iterable[str] = (), question: str = "", *, clipboard: bool = False
    ) -> None:
        """Attach files, URLs and the image on the clipboard; then ask a question, unless an image cannot be read."""
        jobs = [*(partial(from_file, path) for path in paths), *(partial(from_url, url) for url in urls)]
        jobs += [from_clipboard] * clipboard
        if jobs:
            self.reading += 1
            self._attach_all(jobs, question)
        elif question:
            self.post_message(self.Asked(question))

    @work(group="attach")
    async def _attach_all(self, jobs: list[Callable[[], Attachment]], question: str) -> None:
        attached = 0
        try:
            for job in jobs:
                try:
                    self.session.draft.attach(await asyncio.to_thread(job))
                    attached += 1
                except LlavaError as error:
                    self.report(error)
        finally:
            self.reading -= 1
        await self.show()
        if question and attached == len(jobs):
            self.post_message(self.Asked(question))
        elif question:
            self.fill(question)

    async def settled(self) -> None:
        """Wait until all attachments are read."""
        while self.reading:
            await asyncio.sleep(0.01)

    def count_soon(self) -> None:
        """Count tokens once typing pauses."""
        self._counting.reset()
        self._counting.resume()

    def _count(self) -> None:
        text = self.prompt.text
        self.session.count("" if commands.is_command(text) else text)
        self._counting = self.set_timer(COUNT_AFTER, self._count, pause=True)

    def report(self, error: LlavaError) -> None:
        text = f"{clean_line(error.problem, 400)}\n{clean_line(error.advice, 400)}"
        self.notify(text, severity="error", markup=False, timeout=8)

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        """Handle a line: a command, images, a question, or both."""
        event.stop()
        if commands.is_command(event.text):
            self.post_message(self.Commanded(event.text))
        else:
            drop = self._parse(event.text)
            self.attach(drop.paths, drop.urls, drop.text.strip())

    @on(Prompt.Pasted)
    def pasted(self, event: Prompt.Pasted) -> None:
        """Attach pasted files; insert anything else."""
        drop = self._parse(event.text)
        self.attach(drop.paths, drop.urls, clipboard=not event.text)  # so terminals paste an image
        if drop.text:
            self.prompt.write(drop.text)

    def _parse(self, text: str) -> Drop:
        """The images and the question of a text; a corrected answer has none."""
        return Drop(text=text) if self.session.draft.answer else parse_drop(text)

    @on(TextArea.Changed)
    def typed(self, event: TextArea.Changed) -> None:
        """Show matching commands, and count tokens soon."""
        text = event.text_area.text
        matches = commands.matching(text) if text.startswith("/") else []
        width = max((len(command.usage) for command in matches), default=0)
        lines = [f"{c.usage:{width}}  {c.what}" for c in matches[:HINTS]]
        if len(matches) > HINTS:
            lines[-1] = f"… and {len(matches) - HINTS + 1} more: /help"
        hints = self.query_one("#hints", Static)
        hints.update("\n".join(lines))
        hints.display = bool(matches)
        self.count_soon()

    @on(Prompt.Completed)
    def complete(self, event: Prompt.Completed) -> None:
        if matches := commands.matching(event.text):
            self.prompt.put(f"/{matches[0].name} ")

    @on(Prompt.Recalled)
    def recall(self) -> None:
        if questions := self.session.conversation.questions:
            self.edit(questions[-1], questions[-1].text)

    @on(Chip.Switched)
    async def switch(self, event: Chip.Switched) -> None:
        self.session.switch(event.number)
        await self.show()

    @on(Chip.Removed)
    async def remove_image(self, event: Chip.Removed) -> None:
        try:
            self.session.remove(event.number)
        except LlavaError as error:
            self.report(error)
        await self.show()
