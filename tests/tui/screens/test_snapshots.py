"""Every screen as text, at 80 by 24. MLX_LLAVA_RECORD=1 records them again; then review the diff."""

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from screen import Driver, ScriptedWorker, running
from spine import EMBEDDED

from mlx_llava.engine.messages import AnswerPiece, AttentionMapped, Choice, Event, Load, MapAttention, Request
from mlx_llava.tui.history.history import History

GOLDEN = Path(__file__).parents[2] / "golden" / "screens"
SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
ANSWER = "There is a **blue square** on the left.\n\n- blue\n- yellow\n\n```python\nprint(1)\n```\n"
OTHERS = (Choice("\n", 0.03, 1000), Choice(" a small", 0.0175, 1001), Choice("…", 0.0004, 1002))


class UnsureWorker(ScriptedWorker):
    """Reports alternatives, and attention to a spot of the image."""

    def handle(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Event]:
        for event in super().handle(request, cancelled):
            yield replace(event, others=(*event.others, *OTHERS)) if isinstance(event, AnswerPiece) else event
        if isinstance(request, MapAttention):
            down, across = np.mgrid[:24, :24]
            spot = np.maximum(64 - (down - 12) ** 2 - (across - 6) ** 2, 0) / 2**15
            shares = np.stack([spot, spot.T])[:, None]
            yield AttentionMapped(request.number, (" a", " blue"), True, shares, np.full((1, 24, 24), 2**-12))


def album(folder: Path) -> Path:
    """A folder of pictures."""
    (folder / "holidays").mkdir(parents=True)
    for name in ("a cat.png", "blue square.jpg", "notes.txt", "photo of a long afternoon, the last one.png"):
        shutil.copy(SCENE, folder / name)
    return folder


async def empty(driver: Driver) -> None:
    await driver.shows("Everything stays on this machine.")


async def draft(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.type("What is\nthis?")
    await driver.shows("/2048")


async def answer(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.pilot.press("ctrl+r")
    await driver.until(lambda: not driver.session.answering)
    await driver.until(lambda: driver.session.engine.usage and driver.session.engine.usage.history)


async def hints(driver: Driver) -> None:
    await driver.type("/e")


async def help_(driver: Driver) -> None:
    await driver.pilot.press("f1")
    await driver.shows("send")


async def settings(driver: Driver) -> None:
    await driver.pilot.press("f4")
    await driver.shows("temperature")


async def history(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.type("/new", "enter")
    await driver.shows("a new chat")
    driver.app.clear_notifications()
    await driver.until(lambda: "a new chat" not in driver.text())
    await driver.until(lambda: driver.session.engine.usage and not driver.session.engine.usage.history)
    await driver.pilot.press("f2")
    await driver.shows("What is this?")


async def eyes(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.pilot.press("f3")
    await driver.shows("25% of it is padding")


async def cover(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.ask("What is this?")
    await driver.type("/cover", "enter")
    await driver.shows("Enter cover, ask")


async def comparison(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.type("/compare other", "enter")
    await driver.until(lambda: not driver.session.comparing and not driver.session.engine.loading)
    await driver.shows("the answers are the same ·")


async def files(driver: Driver) -> None:
    await driver.pilot.press("@")
    await driver.shows("blue square.jpg")
    await driver.pilot.press("down")
    await driver.shows("160×120")


async def tokens(driver: Driver) -> None:
    await driver.ask("What is this?")
    await driver.type("/tokens", "enter")
    await driver.shows("Token 1 of")
    await driver.pilot.press("right")
    await driver.shows("Token 2 of")


async def attention(driver: Driver) -> None:
    driver.app.chat.composer.attach([SCENE])
    await driver.shows("576 tok")
    await driver.ask("What is this?")
    await driver.type("/attention", "enter")
    await driver.shows("token 1 of 2")
    await driver.pilot.press("right")
    await driver.shows("token 2 of 2")


async def welcome(driver: Driver) -> None:
    await driver.pilot.press("f5")
    await driver.shows("LLaVA-1.5 7B")


def screen_text(driver: Driver) -> str:
    """The screen as text; for a dialog, the dialog alone."""
    for dialog in driver.app.screen.query(".dialog"):
        x, y, width, height = dialog.region
        return "\n".join(line[x : x + width] for line in driver.lines()[y : y + height])
    return driver.text()


@pytest.mark.parametrize(
    "reach",
    [
        empty,
        draft,
        answer,
        hints,
        help_,
        settings,
        history,
        eyes,
        cover,
        comparison,
        files,
        tokens,
        attention,
        welcome,
    ],
    ids=lambda f: f.__name__,
)
def test_a_screen_looks_as_it_did(
    reach: Callable[[Driver], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(album(tmp_path / "Pictures"))
    monkeypatch.setattr("mlx_llava.catalog.offers.memory", lambda: 16_000_000_000)
    monkeypatch.setattr("mlx_llava.tui.session.commands.chats.day", lambda when: "2026-01-02 03:04")
    monkeypatch.setattr("mlx_llava.tui.screens.history.day", lambda when: "2026-01-02 03:04")

    async def draw() -> str:
        async with running(UnsureWorker(ANSWER), Load("llava"), history=History(tmp_path)) as driver:
            await driver.until(lambda: driver.session.model)
            await reach(driver)
            await driver.until(lambda: driver.session.engine.usage)
            await driver.pilot.pause(0.3)
            return screen_text(driver) + "\n"

    text, file = asyncio.run(draw()), GOLDEN / f"{reach.__name__.strip('_')}.txt"
    if os.environ.get("MLX_LLAVA_RECORD") == "1":
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
