"""The application under test, with a scripted worker and without a terminal; its screen as text."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from scripted import ScriptedWorker
from textual.pilot import Pilot

from mlx_llava.engine.messages import Load
from mlx_llava.engine.thread import Engine, Worker
from mlx_llava.tui.app import ChatApp
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings

RULING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # what a terminal would act on


class Driver:
    """Uses an application as a person does."""

    def __init__(self, pilot: Pilot[int], app: ChatApp) -> None:
        self.pilot = pilot
        self.app = app
        self.session = app.session

    async def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> None:
        """Wait for a condition, and for the screen to show it."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, self.text()
            await asyncio.sleep(0.01)
        await self.pilot.pause()

    async def shows(self, text: str) -> None:
        """Wait until the screen shows a text."""
        await self.until(lambda: text in self.text())

    async def type(self, text: str, *keys: str) -> None:
        """Type a text, then keys."""
        self.app.chat.composer.prompt.insert(text)
        await self.pilot.press(*keys)

    async def ask(self, question: str) -> None:
        """Ask, and wait for the answer."""
        count = len(self.session.conversation.answers)
        await self.type(question, "enter")
        await self.until(lambda: len(self.session.conversation.answers) > count and not self.session.answering)
        await self.pilot.pause(0.1)

    def lines(self) -> list[str]:
        """Return the rows of the screen."""
        return ["".join(s.text for s in strip).rstrip() for strip in self.app.screen._compositor.render_strips()]

    def text(self) -> str:
        """Return the screen as one text."""
        return "\n".join(self.lines())


def builder(worker: Worker | type[Worker]) -> Callable[[], Worker]:
    """Return a function that creates a worker of a class, or returns the given one."""
    return worker if isinstance(worker, type) else lambda: worker


def quiet_history() -> History:
    """Return a history in memory that does not count as incognito."""
    history = History(None)
    history.file = Path("history")
    return history


@asynccontextmanager
async def running(
    worker: Worker | type[Worker],
    load: Load | None = Load("scripted"),  # noqa: B008 - frozen
    images: tuple[Path, ...] = (),
    *,
    size: tuple[int, int] = (80, 24),
    history: History | None = None,
    settings: Settings | None = None,
) -> AsyncIterator[Driver]:
    """Run the application."""
    session = Session(
        lambda: Engine(builder(worker)),
        settings or Settings(),
        Record(history or quiet_history()),
    )
    app = ChatApp(session, Opening(load, images))
    try:
        async with app.run_test(size=size, notifications=True) as pilot:
            await pilot.pause()
            yield Driver(pilot, app)
    finally:
        assert session.close()


def on_loop(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Turn an asynchronous function into a test."""

    @wraps(test)
    def run(*arguments: object, **named: object) -> None:
        asyncio.run(test(*arguments, **named))  # pyright: ignore[reportArgumentType]

    return run


def answers(driver: Driver) -> list[str]:
    """Return the answers on the path."""
    return [node.text for node in driver.session.conversation.answers]


def run(test: Callable[[], Any]) -> None:
    """Run an asynchronous test."""
    asyncio.run(test())


__all__ = ["Driver", "ScriptedWorker", "run", "running"]
