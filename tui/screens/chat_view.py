"""Shows a session while it changes: the conversation above, the composer below."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

from textual.app import ComposeResult
from textual.css.query import NoMatches
from textual.screen import Screen
from textual.widget import MountError

from mlx_llava.engine.messages import AnswerFinished, AnswerPiece, Ask, Crashed, Event, Failed, Loaded, MapAttention
from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.composer import Composer
from mlx_llava.tui.widgets.image_view import ImageView
from mlx_llava.tui.widgets.log import Log
from mlx_llava.tui.widgets.status import Status, Title
from mlx_llava.tui.widgets.turns import AnswerTurn

PAUSE = 0.05  # seconds between two polls
SHARE = 7  # pause this many times as long as the last poll took: use at most a seventh of a core
LONGEST = 0.5  # seconds between two polls, however long one takes


class Pump:
    """Calls a listener after each wake-up, with pauses in between."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        """Set when there are events."""
        self.hurry = asyncio.Event()
        """While set, pauses are short."""

    async def run(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Call `listen` whenever there are events."""
        busy = time.thread_time()
        while True:
            await self.woken.wait()
            self.woken.clear()
            await listen()
            used, busy = time.thread_time() - busy, time.thread_time()  # includes layout and paint since the last poll
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.hurry.wait(), min(max(PAUSE, SHARE * used), LONGEST))
                await asyncio.sleep(PAUSE / 5)


class ChatView(Screen[None]):
    """Shows one session; knows nothing of keys and commands."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.pump = Pump()

    def compose(self) -> ComposeResult:
        yield Title()
        yield Log()
        yield Composer(self.session)
        yield Status()

    def on_mount(self) -> None:
        self.run_worker(self.pump.run(self._listen), exclusive=True, group="pump")

    @property
    def composer(self) -> Composer:
        return self.query_one(Composer)

    @property
    def log_view(self) -> Log:
        return self.query_one(Log)

    async def redraw(self) -> None:
        """Show the session in its current state."""
        await self.log_view.show_images(self.session.settings.images != "off")
        for view in self.query(ImageView):
            view.refresh()  # the settings may have changed how images are drawn
        await self.log_view.show(self.session.conversation)
        await self.composer.show()
        self.refresh_state()

    def refresh_state(self) -> None:
        """Show the current title, status and warnings."""
        self.query_one(Title).show(self.session)
        self.query_one(Status).show(self.session)
        for trouble in self.session.record.take_trouble():
            self.notify(clean_line(trouble, 400), severity="warning", markup=False, timeout=8)
        self.composer.warn()

    async def finish_turn(self, answer: Node) -> None:
        """Draw a finished or changed answer."""
        turn = self.log_view.turn(answer)
        if isinstance(turn, AnswerTurn):
            await turn.finish()

    async def _listen(self) -> None:
        with contextlib.suppress(NoMatches, MountError):  # while the screen closes
            pending = self.session.answering
            events = self.session.receive()
            if pending and any(isinstance(event, AnswerPiece) for event in events):
                turn = self.log_view.turn(pending.node)
                if isinstance(turn, AnswerTurn):
                    await turn.grow()
            for event in events:
                await self._show(event, pending.node if pending else None)
            if not self.session.answering:
                self.pump.hurry.clear()
            self.refresh_state()

    async def _show(self, event: Event, answer: Node | None) -> None:
        match event:
            case AnswerFinished() if answer:
                if answer.text:
                    await self.finish_turn(answer)
                await self.redraw()
            case Failed(request=Ask()):
                await self.redraw()
                await self.log_view.note(f"{event.problem}\n{event.advice}", error=True)
            case Failed(request=request) if not isinstance(request, MapAttention):  # its own screen shows those
                self.composer.report(LlavaError(event.problem, event.advice))
            case Crashed():
                await self.redraw()
                await self.log_view.note(f"The engine crashed: {event.problem}\n/model starts it again.", error=True)
            case Loaded():
                await self.redraw()
