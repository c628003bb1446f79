"""Text that would rule a terminal passes every widget as symbols."""

import asyncio
from pathlib import Path

import pytest
from screen import RULING, Driver, ScriptedWorker, running
from spine import EMBEDDED

from mlx_llava.engine.messages import Load
from mlx_llava.tui.history.history import History
from mlx_llava.tui.images.attachments import from_bytes
from mlx_llava.tui.widgets.chips import Chip

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
CONTROLS = "".join(chr(n) for n in (*range(9), *range(11, 32), *range(127, 160)) if chr(n) not in "\r")
ATTACKS = (
    "a\x1b]0;title\x07b",
    "a\x1b]52;c;aGk=\x07b",
    "a\x1b[2Jb",
    "a\x9b2Jb",
    "[@click=app.quit]leave[/]",
    "[red]text[/red]",
    f"a{CONTROLS}b",
    "a\u202etxt.gnp\u202cb",
)


def check(driver: Driver) -> None:
    assert not RULING.search(driver.text())


@pytest.mark.parametrize("attack", ATTACKS, ids=range(len(ATTACKS)))
def test_every_widget_shows_it_as_text(attack: str, tmp_path: Path) -> None:
    async def test() -> None:
        worker = ScriptedWorker(f"{attack} and\n\n```\n{attack}\n```\n\n[{attack}](https://x.org)")
        history = History(tmp_path)
        async with running(worker, size=(100, 50), history=history) as driver:
            driver.session.draft.attach(from_bytes(SCENE.read_bytes(), f"{attack}.png"))
            await driver.app.chat.redraw()
            await driver.ask(attack)
            check(driver)
            assert "leave" not in attack or "[@click=app.quit]leave" in driver.text()  # shown, not obeyed
            driver.app.chat.query(Chip).first().focus()
            await driver.pilot.pause()
            check(driver)
            for line in ("/pictures", "/stats", "/history and", f"/rename {attack}", "/model " + attack[:40]):
                driver.app.chat.action_command(line)
                await driver.pilot.pause(0.1)
                check(driver)
            await driver.app.chat.log_view.note(attack, error=True)
            driver.app.notify(attack, markup=False) if not RULING.search(attack) else None
            driver.app.chat.open("history")
            await driver.pilot.pause(0.1)
            check(driver)

    asyncio.run(test())


def test_a_model_s_name_and_its_errors_are_text() -> None:
    async def test() -> None:
        attack = "".join(ATTACKS[:4])
        async with running(ScriptedWorker(), Load(attack)) as driver:
            await driver.until(lambda: driver.session.model)
            check(driver)
            await driver.type("/model", "enter")
            await driver.pilot.pause(0.2)
            check(driver)

    asyncio.run(test())
