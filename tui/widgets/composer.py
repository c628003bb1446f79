"""Where a question is put together: its text, its pictures, hints for commands."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from textual import on, work
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static, TextArea

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.attachments import Attachment, from_clipboard, from_file, from_url
from mlx_llava.tui.images.dropped import dropped
from mlx_llava.tui.session import commands, figures
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.chips import Chip, Chips
from mlx_llava.tui.widgets.prompt import Prompt

COUNT_AFTER = 0.2  # seconds without a key before tokens are counted
HINTS = 8  # commands shown at a time


class Composer(Vertical):
    """The foot of the chat."""

    @dataclass
    class Asked(Message):
        """A question was sent; its pictures are in the draft."""

        text: str

    @dataclass
    class Commanded(Message):
        """A slash command was sent."""

        line: str

    def __init__(self, session: Session) -> None:
        super().__init__(id="composer")
        self.session = session
        self._reading = 0  # pictures that are being read

    def compose(self) -> Iterable[Widget]:
        """Hints, pictures, text."""
        yield Static("", markup=False, id="hints")
        yield Chips()
        yield Prompt()

    def on_mount(self) -> None:
        """Type at once."""
        self._counting = self.set_timer(COUNT_AFTER, self._count, pause=True)
        self.prompt.focus()

    @property
    def prompt(self) -> Prompt:
        """The text."""
        return self.query_one(Prompt)

    def fill(self, text: str) -> None:
        """Put text into the prompt."""
        self.prompt.put(text)
        self.prompt.focus()

    def edit(self, node: Node | None, text: str = "") -> None:
        """Edit a question or an answer, or no longer."""
        self.session.edit(node)
        if node or text:
            self.fill(text)
        self.call_later(self.show)

    async def show(self) -> None:
        """Show the session's pictures and warnings, and what is edited, as they are now."""
        session, edited = self.session, self.session.editing
        titles = {"user": "Editing a question: Enter asks it anew", "assistant": "Editing an answer: Enter keeps it"}
        self.prompt.border_title = f"{titles[edited.role]}, Esc leaves it" if edited else ""
        tokens = session.model.image_tokens if session.model else None
        await self.query_one(Chips).show(session.images(), session.draft, tokens)
        self.warn()
        self.count_soon()

    def warn(self) -> None:
        """Say it where the prompt is too long."""
        counted = self.session.counted
        warning = figures.context_warning(counted, self.session.settings.max_tokens) if counted else ""
        self.prompt.border_subtitle = warning
        self.prompt.set_class(bool(warning), "-warning")

    def attach(self, paths: Iterable[Path] = (), urls: Iterable[str] = (), *, pasted: bool = False) -> None:
        """Read pictures, fetch them, or take that on the clipboard, and put them beside the question."""
        jobs = [*(partial(from_file, path) for path in paths), *(partial(from_url, url) for url in urls)]
        jobs += [from_clipboard] * pasted
        if jobs:
            self._reading += 1
            self._attach_all(jobs)

    @work(group="attach")
    async def _attach_all(self, jobs: list[Callable[[], Attachment]]) -> None:
        try:
            for job in jobs:
                try:
                    self.session.attach(await asyncio.to_thread(job))
                except LlavaError as error:
                    self.tell(error)
        finally:
            self._reading -= 1
        await self.show()

    async def settled(self) -> None:
        """Wait for pictures that are being read."""
        while self._reading:
            await asyncio.sleep(0.01)

    def count_soon(self) -> None:
        """Have tokens counted once nothing was typed for a moment."""
        self._counting.reset()
        self._counting.resume()

    def _count(self) -> None:
        text = self.prompt.text
        self.session.count("" if commands.is_command(text) else text)
        self._counting = self.set_timer(COUNT_AFTER, self._count, pause=True)

    def tell(self, error: LlavaError) -> None:
        """Say what is wrong and what to do."""
        text = f"{clean_line(error.problem, 400)}\n{clean_line(error.advice, 400)}"
        self.notify(text, severity="error", markup=False, timeout=8)

    @on(Prompt.Sent)
    def sent(self, event: Prompt.Sent) -> None:
        """A line was sent: a command, pictures, or a question."""
        event.stop()
        if commands.is_command(event.text):
            self.post_message(self.Commanded(event.text))
        elif (found := dropped(event.text)).text == "":
            self.attach(found.paths, found.urls)
        else:
            self.post_message(self.Asked(event.text.strip()))

    @on(Prompt.Pasted)
    def pasted(self, event: Prompt.Pasted) -> None:
        """Pasted files are attached; anything else is text."""
        found = dropped(event.text)
        if not event.text:  # as terminals paste what is no text
            self.attach(pasted=True)
        elif found.text == "":
            self.attach(found.paths, found.urls)
        else:
            self.prompt.take(event.text)

    @on(TextArea.Changed)
    def typed(self, event: TextArea.Changed) -> None:
        """Show which commands fit, and count soon."""
        text = event.text_area.text
        fitting = commands.matching(text) if text.startswith("/") else []
        width = max((len(command.usage) for command in fitting), default=0)
        lines = [f"{c.usage:{width}}  {c.what}" for c in fitting[:HINTS]]
        if len(fitting) > HINTS:
            lines[-1] = f"… and {len(fitting) - HINTS + 1} more: /help"
        hints = self.query_one("#hints", Static)
        hints.update("\n".join(lines))
        hints.display = bool(fitting)
        self.count_soon()

    @on(Prompt.Completed)
    def complete(self, event: Prompt.Completed) -> None:
        """Complete a command."""
        if fitting := commands.matching(event.text):
            self.prompt.put(f"/{fitting[0].name} ")

    @on(Prompt.Recalled)
    def recall(self) -> None:
        """Edit the last question."""
        if questions := self.session.conversation.questions:
            self.edit(questions[-1], questions[-1].text)

    @on(Chip.Switched)
    async def switch(self, event: Chip.Switched) -> None:
        """Switch a picture off or on."""
        self.session.switch(event.number)
        await self.show()

    @on(Chip.Removed)
    async def remove_image(self, event: Chip.Removed) -> None:
        """Take a picture out of the draft."""
        try:
            self.session.remove(event.number)
        except LlavaError as error:
            self.tell(error)
        await self.show()
