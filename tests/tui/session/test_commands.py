"""Slash commands by themselves: what is typed wrongly is told of, and nothing is lost by it."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from screen import ScriptedWorker, on_loop, quiet_history, running
from spine import EMBEDDED

from mlx_llava.engine.messages import Counted
from mlx_llava.engine.thread import Engine
from mlx_llava.errors import LlavaError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session import commands
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.commands.command import Command
from mlx_llava.tui.session.commands.models import parse
from mlx_llava.tui.session.figures import context_lines, context_warning, stats_lines
from mlx_llava.tui.session.reply import Reply, Say
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import Settings

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
OTHER = EMBEDDED / "examples" / "three_shapes.png"


@pytest.mark.parametrize(
    "line",
    [
        "/export html missing/folder/x.html",
        f"/export html {'x' * 300}.html",
        "/export html ~nobody/x.html",
        "/export markdown /dev/null/x.md",
        "/tune /dev/null/x.json",
        "/model ~nobody/x y z",
        "/compare 'unfinished",
        "/branch sideways",
        "/branch 7",
        "/instead",
    ],
)
def test_a_wrong_command_is_an_error(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    @on_loop
    async def ask() -> None:
        async with running(ScriptedWorker(), history=History(None)) as driver:
            await driver.ask("Why?")
            with pytest.raises(LlavaError):
                commands.run(driver.session, line)

    ask()


def test_the_advice_for_a_prompt_that_is_too_long_helps() -> None:
    for usage, advice in (
        (Counted(1, 30, 576, 0, 20, context=512), "switch a picture off"),
        (Counted(1, 30, 64, 600, 20, context=512), "start a new chat"),
        (Counted(1, 30, 64, 10, 80_000, context=512), "shorten the question"),
        (Counted(1, 30, 64, 10, 380, context=512), "28 tokens are left"),
        (Counted(1, 30, 64, 10, 10, context=512), ""),
    ):
        assert advice in context_warning(usage, 128)
        assert bool(advice) == bool(context_warning(usage, 128))
    rows = [line.rsplit(maxsplit=2) for line in context_lines(Counted(1, 30, 64, 10, 10, context=512), 128)]
    assert sum(int(tokens) for _, tokens, _ in rows) == 512
    assert ["reserved for the answer", "128", "25%"] in rows


@pytest.mark.parametrize("key", ["image_tokens", "picture_tokens"])  # the latter in histories of older versions
def test_the_facts_of_a_saved_answer_are_listed(key: str) -> None:
    facts = {"prompt_tokens": 90, key: 64, "prefilled_tokens": 1, "first_token": 0.1, "vision": 0.0, "prefill": 0.1}
    facts |= {"tokens": 2, "tokens_per_second": 9.0, "finish": "stop", "memory": 1e9, "peak": 2e9}
    assert stats_lines(facts)[0] == "prompt       90 tokens, 64 of pictures, 1 computed"


def test_a_bug_in_a_command_does_not_end_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    def mistake(session: Session, argument: str) -> Reply:
        raise ZeroDivisionError("no reason")

    session = Session(lambda: Engine(ScriptedWorker), Settings(), Record(quiet_history()))
    monkeypatch.setitem(commands.COMMANDS, "new", Command("new", "/new", "", mistake))
    with pytest.raises(LlavaError, match="ZeroDivisionError: no reason"):
        commands.run(session, "/new")


def test_a_model_and_its_adapter_may_have_spaces_in_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my model").mkdir()
    assert parse("my model").model == "my model"
    both = parse("'my model' \"an adapter\"")
    assert (both.model, both.adapter) == ("my model", "an adapter")
    assert parse("embedded my-adapter").model is None
    with pytest.raises(LlavaError, match="3 names"):
        parse("one two three")


@on_loop
async def test_every_branch_can_be_reached_in_words() -> None:
    async with running(ScriptedWorker()) as driver:
        await driver.ask("Why?")
        await driver.type("/edit", "enter")
        await driver.shows("Editing a question")
        await driver.type("!", "enter")
        await driver.until(lambda: driver.session.conversation.answers and not driver.session.answering)
        await driver.type("/again", "enter")
        await driver.until(lambda: driver.session.conversation.tip.place == (2, 2) and not driver.session.answering)
        assert commands.run(driver.session, "/branch") == Say("branch 1 of 2")
        assert driver.session.conversation.questions[0].text == "Why?!"
        assert commands.run(driver.session, "/branch previous 1") == Say("branch 1 of 2")
        assert driver.session.conversation.questions[0].text == "Why?"


def test_training_data_of_a_chat_can_be_tuned_on_as_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my data").mkdir()

    @on_loop
    async def ask() -> None:
        async with running(ScriptedWorker("A square."), images=(SCENE,), history=History(tmp_path)) as driver:
            await driver.ask("What is this?")
            driver.session.engine.model = None  # the scripted model has no folder
            reply = commands.run(driver.session, "/tune my data/chats.json")
            assert isinstance(reply, Say)
            assert "1 in all" in reply.text
            _, command, _ = reply.text.splitlines()
            words.extend(shlex.split(command))

    words: list[str] = []
    ask()
    assert words[:2] == ["mlx-llava", "lora"]
    assert "--batch-size" not in words
    command = [sys.executable, "-m", "mlx_llava", *words[1:], "--steps", "2"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "my-adapter" / "adapter_config.json").is_file()
