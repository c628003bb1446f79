"""Every screen as text, at 80 by 24. MLX_LLAVA_RECORD=1 writes them anew; then look at what changed."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from screen import Driver, ScriptedWorker, running
from spine import EMBEDDED

from mlx_llava.tui.history import History
from mlx_llava.tui.messages import Load

GOLDEN = Path(__file__).parents[1] / "golden" / "screens"
SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
ANSWER = "There is a **blue square** on the left.\n\n- blue\n- yellow\n\n```python\nprint(1)\n```\n"


async def empty(driver: Driver) -> None:
    await driver.shows("Everything stays on this machine.")


async def drafted(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.type("What is\nthis?")
    await driver.shows("/2048")


async def answered(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.pilot.press("ctrl+r")
    await driver.until(lambda: not driver.session.answering)
    await driver.until(lambda: driver.session.counted and driver.session.counted.history)


async def hinted(driver: Driver) -> None:
    await driver.type("/e")


async def helped(driver: Driver) -> None:
    await driver.pilot.press("f1")
    await driver.shows("send")


async def configured(driver: Driver) -> None:
    await driver.pilot.press("f4")
    await driver.shows("temperature")


async def kept(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.type("/new", "enter")
    await driver.shows("a new chat")
    driver.app.clear_notifications()
    await driver.until(lambda: "a new chat" not in driver.text())
    await driver.until(lambda: driver.session.counted and not driver.session.counted.history)
    await driver.pilot.press("f2")
    await driver.shows("What is this?")


async def seen(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.pilot.press("f3")
    await driver.shows("25% of it is padding")


async def covering(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.ask("What is this?")
    await driver.type("/cover", "enter")
    await driver.shows("Enter cover, ask")


async def compared(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.type("/compare other", "enter")
    await driver.until(lambda: not driver.session.comparing and not driver.session.loading)
    await driver.shows("the answers are the same ·")


async def welcomed(driver: Driver) -> None:
    await driver.pilot.press("f5")
    await driver.shows("LLaVA-1.5 7B")


@pytest.mark.parametrize(
    "reach",
    [empty, drafted, answered, hinted, helped, configured, kept, seen, covering, compared, welcomed],
    ids=lambda f: f.__name__,
)
def test_a_screen_looks_as_it_did(
    reach: Callable[[Driver], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))
    monkeypatch.setattr("mlx_llava.tui.catalog.memory", lambda: 16_000_000_000)
    monkeypatch.setattr("mlx_llava.tui.keeping.day", lambda when: "2026-01-02 03:04")
    monkeypatch.setattr("mlx_llava.tui.history_screen.day", lambda when: "2026-01-02 03:04")

    async def draw() -> str:
        async with running(ScriptedWorker(ANSWER), Load("llava"), history=History(tmp_path)) as driver:
            await driver.until(lambda: driver.session.model)
            await reach(driver)
            await driver.until(lambda: driver.session.counted)
            await driver.pilot.pause(0.3)
            return driver.text() + "\n"

    shown, file = asyncio.run(draw()), GOLDEN / f"{reach.__name__}.txt"
    if os.environ.get("MLX_LLAVA_RECORD") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(shown, encoding="utf-8")
    assert shown == file.read_text(encoding="utf-8")
