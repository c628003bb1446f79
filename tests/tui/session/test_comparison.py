"""Two models on one question: one after the other, side by side."""

import shutil
from pathlib import Path

import pytest
from screen import on_loop, running
from scripted import ScriptedWorker
from spine import EMBEDDED

from mlx_llava.embedded import converted_folder
from mlx_llava.engine.messages import Ask, Load
from mlx_llava.engine.worker import ModelWorker
from mlx_llava.errors import UsageError
from mlx_llava.tui.screens.compare import marked
from mlx_llava.tui.session import commands

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
        assert len(worker.questions) == 2


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
async def test_nothing_is_compared_while_a_model_is_on_its_way_and_the_right_one_comes_back() -> None:
    worker = ScriptedWorker()
    async with running(worker, size=(100, 30)) as driver:
        await driver.ask("What?")
        worker.load_gate.clear()
        await driver.type("/model one", "enter")
        await driver.type("/model two", "enter")
        with pytest.raises(UsageError, match="is being loaded"):
            commands.run(driver.session, "/compare other")
        worker.load_gate.set()
        await driver.until(lambda: driver.session.model and driver.session.model.name == "two")
        await driver.type("/compare other", "enter")
        await driver.until(lambda: driver.session.comparison and not driver.session.comparing)
        assert driver.session.model is not None
        assert driver.session.model.name == "two"


@on_loop
async def test_a_crash_of_the_other_model_leaves_the_answer_that_was_there() -> None:
    worker = ScriptedWorker("one two three")
    async with running(worker, size=(100, 30)) as driver:
        await driver.ask("What?")
        first = driver.session.conversation.tip
        worker.gate.clear()
        await driver.type("/compare other", "enter")
        await driver.until(lambda: driver.session.comparison and driver.session.comparison.right.text)
        worker.failure = ZeroDivisionError("no reason")
        worker.gate.set()
        await driver.until(lambda: driver.session.engine.crashed)
        assert driver.session.conversation.tip is first
        assert not driver.session.comparing


def test_only_words_that_differ_are_marked() -> None:
    marks = marked("a red\ncat sat", "a blue cat sat")
    assert (marks.plain, [marks.plain[s.start : s.end].strip() for s in marks.spans]) == ("a red\ncat sat", ["red"])
    assert not marked("word " * 2000, "other " * 2000).spans
    assert not marked("same", "same").spans


@on_loop
async def test_two_real_models_answer_the_same_where_they_are_the_same(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
    twin = shutil.copytree(converted_folder(), tmp_path / "twin")
    async with running(ModelWorker, Load(), (SCENE,), size=(100, 30)) as driver:
        await driver.until(lambda: driver.session.model)
        await driver.ask("What color is the square?")
        await driver.type(f"/compare {twin}", "enter")
        await driver.until(lambda: driver.session.comparison and not driver.session.comparing)
        await driver.shows("the answers are the same")
        assert driver.session.model is not None
        assert driver.session.model.name == "embedded"
