"""How often the screen looks at the engine's events."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

PAUSE = 0.05  # seconds between two looks
SHARE = 7  # pause this many times as long as the last look took: at most a seventh of a core
LONGEST = 0.5  # seconds between two looks, however long one takes


class Pump:
    """Calls a listener after each wake-up, with pauses in between."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._hurry = asyncio.Event()

    @property
    def hurrying(self) -> bool:
        """Whether pauses are short."""
        return self._hurry.is_set()

    def wake(self) -> None:
        """There are events."""
        self._woken.set()

    def hurry(self) -> None:
        """Keep pauses short until `relax`."""
        self._hurry.set()

    def relax(self) -> None:
        """Make normal pauses."""
        self._hurry.clear()

    async def run(self, listen: Callable[[], Awaitable[None]]) -> None:
        """Call `listen` whenever there are events."""
        busy = time.thread_time()
        while True:
            await self._woken.wait()
            self._woken.clear()
            await listen()
            used, busy = time.thread_time() - busy, time.thread_time()  # includes layout and paint since the last look
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), min(max(PAUSE, SHARE * used), LONGEST))
                await asyncio.sleep(PAUSE / 5)
