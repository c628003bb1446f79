"""How often the screen polls the engine."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

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
