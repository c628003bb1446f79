"""Two models on one question: one after the other, side by side."""

import shutil
from pathlib import Path

import pytest
from screen import on_loop, running
from scripted import ScriptedWorker
from spine import EMBEDDED

from mlx_llava.embedded import converted
from mlx_llava.errors import UsageError
from mlx_llava.tui import commands
from mlx_llava.tui.messages import Ask, Load
from mlx_llava.tui.worker import ModelWorker

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"


@on_loop
async def test_another_model_answers_beside_and_the_first_comes_back() -> None:
    worker = ScriptedWorker(lambda ask: f"answer {ask.number}")
    async with running(worker, size=(100, 30)) as driver:
        await driver.ask("What?")
        first = driver.session.conversation.tip
        await driver.type("/compare other mine/adapter", "enter")
        await driver.shows("the answers differ")
        await driver.until(lambda: not driver.session.comparing)
        assert [request for request in worker.requests if isinstance(request, Load)] == [
            Load("scripted"),
            Load("other", "mine/adapter"),
            Load("scripted"),
        ]
        lines = driver.text()
        for told in ("scripted 4-bit", "other 4-bit + adapter", first.text, "first after 460 ms"):
            assert told in lines
        await driver.pilot.press("escape")
        await driver.shows("‹1/2›")  # the other answer is a branch
        assert driver.session.conversation.tip is first
        assert first.parent is not None
        assert [node.facts["model"] for node in first.parent.children] == ["scripted", "other"]
        await driver.ask("And now?")


@on_loop
async def test_a_model_that_cannot_be_compared_with_leaves_everything_as_it_was() -> None:
    worker = ScriptedWorker()
    async with running(worker, size=(100, 30)) as driver:
        with pytest.raises(UsageError, match="no answer to compare"):
            commands.run(driver.session, "/compare other")
        await driver.ask("What?")
        await driver.type("/compare nowhere", "enter")
        await driver.shows("nowhere: no such folder")
        assert not driver.session.comparing
        assert driver.session.model is not None
        await driver.pilot.press("escape")
        await driver.ask("And now?")
        assert len(worker.asked) == 2


@on_loop
async def test_closing_before_the_other_model_is_there_asks_it_nothing() -> None:
    worker = ScriptedWorker()
    async with running(worker, size=(100, 30)) as driver:
        await driver.ask("What?")
        worker.load_gate.clear()
        await driver.type("/compare other", "enter")
        await driver.shows("loading the other model")
        await driver.pilot.press("escape")
        worker.load_gate.set()
        await driver.until(lambda: not driver.session.comparing and driver.session.model)
        assert driver.session.model is not None
        assert driver.session.model.name == "scripted"
        assert len([request for request in worker.requests if isinstance(request, Ask)]) == 1


@on_loop
async def test_two_real_models_answer_the_same_where_they_are_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
    twin = shutil.copytree(converted(), tmp_path / "twin")
    async with running(ModelWorker, Load(), (SCENE,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.model)
        await driver.ask("What color is the square?")
        await driver.type(f"/compare {twin}", "enter")
        await driver.until(lambda: driver.session.comparison and not driver.session.comparing)
        await driver.shows("the answers are the same")
        assert driver.session.model is not None
        assert driver.session.model.name == "embedded"
