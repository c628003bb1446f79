"""Where an answer looked: the geometry, and the screen with the embedded model."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
from screen import Driver, ScriptedWorker, running
from spine import EMBEDDED

from mlx_llava.engine.messages import Load
from mlx_llava.tui.images.heat import NOW, answer_line, digits, relative, stretch
from mlx_llava.tui.screens.attention import AttentionScreen
from mlx_llava.tui.widgets.image_view import ImageView

SCENE = EMBEDDED / "examples" / "one_shape.png"
OTHER = EMBEDDED / "examples" / "two_shapes_wide.png"


def test_light_is_stretched_and_relative_is_a_ratio() -> None:
    weights = np.array([[1.0, 2.0], [3.0, 5.0]])
    assert stretch(weights).tolist() == [[0, 0.25], [0.5, 1]]
    assert not stretch(np.ones((2, 2))).any()
    assert relative(weights, np.array([[1.0, 4.0], [1.0, 2.0]])).tolist() == [[1, 0.5], [3, 2.5]]
    assert np.isfinite(relative(weights / 10, np.ones((2, 2)) * 1e-3)).all()


def test_digits_go_from_0_for_nothing_to_9_for_the_most() -> None:
    assert digits(np.array([[0.0, 0.1], [0.2, 0.9]], np.float32)) == ["01", "29"]
    assert digits(np.zeros((2, 2), np.float32)) == ["00", "00"]
    small, large = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    assert digits(np.array([[0, small]])) == ["09"]
    assert digits(np.array([[large, large]])) == ["99"]
    assert [len(row) for row in digits(np.ones((24, 24)))] == [24] * 24


def test_the_token_that_is_looked_at_stands_out_in_a_long_answer() -> None:
    tokens = tuple(f" {n}" for n in range(100))
    line = answer_line(tokens, 50, "reverse")
    (span,) = line.spans
    assert line.plain[span.start : span.end] == " 50"
    assert line.plain.startswith("… 26")
    assert line.plain.endswith(" 74…")
    assert answer_line(("\x1b[31m", "a\nb"), 0, "").plain == "␛[31ma␊b"


def shown_light(driver: Driver) -> np.ndarray:
    weights = driver.app.screen.query_one(ImageView).weights
    assert weights is not None
    return weights.copy()


@pytest.fixture
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))


@pytest.mark.usefixtures("_at_home")
def test_a_person_sees_where_each_token_looked() -> None:
    from mlx_llava.engine.worker import ModelWorker

    async def test() -> None:
        async with running(ModelWorker, Load(), (SCENE,), size=(100, 36)) as driver:
            await driver.ask("Describe the picture.")
            said = driver.session.conversation.answers[-1].text
            await driver.type("/attention", "enter")
            await driver.shows("token 1 of ")
            screen = driver.app.screen
            assert isinstance(screen, AttentionScreen)
            await driver.shows("Attention · picture 1 of 1: one_shape.png")
            assert screen.maps is not None
            assert "".join(screen.maps.tokens).strip() == said
            first = shown_light(driver)
            await driver.pilot.press("right")
            await driver.shows("token 2 of ")
            second = shown_light(driver)
            assert (first != second).any()
            await driver.shows("raw")
            await driver.pilot.press("r")
            await driver.shows("times what a neutral prompt")
            assert (shown_light(driver) != second).any()
            await driver.pilot.press("r", "left", "left")
            await driver.shows("token 1 of ")
            assert (shown_light(driver) == first).all()
            last = len(screen.maps.tokens)
            await driver.pilot.press("end")
            await driver.shows(f"token {last} of {last}")
            await driver.pilot.press("right", "home")
            await driver.shows("token 1 of ")
            await driver.pilot.press("escape")
            await driver.until(lambda: driver.app.screen is driver.app.chat)
            await driver.pilot.press("ctrl+r")
            await driver.until(lambda: not driver.session.answering)
            assert driver.session.conversation.answers[-1].text == said

    asyncio.run(test())


@pytest.mark.usefixtures("_at_home")
def test_tab_goes_to_another_picture_and_an_edited_answer_is_read_as_it_is_now() -> None:
    from mlx_llava.engine.worker import ModelWorker

    async def test() -> None:
        async with running(ModelWorker, Load(), (SCENE, OTHER), size=(100, 36)) as driver:
            await driver.ask("How many shapes are there?")
            await driver.type("/correct two of them", "enter")
            await driver.until(lambda: driver.session.conversation.answers[-1].text == "two of them")
            await driver.type("/attention", "enter")
            await driver.shows(NOW)
            await driver.shows("picture 2 of 2: two_shapes_wide.png")
            second = shown_light(driver)
            await driver.pilot.press("tab")
            await driver.shows("picture 1 of 2: one_shape.png")
            assert (shown_light(driver) != second).any()
            await driver.pilot.press("shift+tab")
            await driver.shows("picture 2 of 2")

    asyncio.run(test())


def test_without_an_answer_or_a_picture_there_is_nothing_to_look_at() -> None:
    async def test() -> None:
        async with running(ScriptedWorker()) as driver:
            await driver.type("/attention", "enter")
            await driver.shows("there is no answer yet")
            await driver.ask("Hm?")
            await driver.type("/attention", "enter")
            await driver.shows("saw no picture")
            assert driver.app.screen is driver.app.chat

    asyncio.run(test())


def test_a_look_that_fails_says_so_on_its_screen() -> None:
    async def test() -> None:
        worker = ScriptedWorker()
        async with running(worker, images=(SCENE,)) as driver:
            await driver.until(lambda: driver.session.engine.usage and driver.session.engine.usage.total > 500)
            await driver.ask("Hm?")
            worker.refusal = "too long"
            await driver.type("/attention", "enter")
            await driver.shows("too long")
            assert isinstance(driver.app.screen, AttentionScreen)
            await driver.pilot.press("r", "right", "tab", "escape")
            await driver.until(lambda: driver.app.screen is driver.app.chat)

    asyncio.run(test())
