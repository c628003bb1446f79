"""How sure an answer was, and going on from another token."""

import re

import pytest
from screen import on_loop, running
from scripted import ScriptedWorker
from spine import EMBEDDED

from mlx_llava.engine.messages import Load
from mlx_llava.engine.worker import ModelWorker
from mlx_llava.errors import UsageError
from mlx_llava.tui.session import commands
from mlx_llava.tui.session.figures import choices
from mlx_llava.tui.session.reply import Open
from mlx_llava.tui.session.settings import Settings

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"


@on_loop
async def test_the_screen_shows_what_else_was_likely() -> None:
    async with running(ScriptedWorker("a cat"), size=(100, 30)) as driver:
        await driver.ask("What?")
        await driver.type("/tokens", "enter")
        await driver.shows("Token 1 of 2")
        await driver.pilot.press("right")
        await driver.shows("Token 2 of 2")
        lines = [line for line in driver.lines() if "%" in line]
        assert re.search(r"▸  90\.0%  .* cat  in the answer", lines[0])
        assert re.search(r"  5\.0%  .* dog", lines[1])


@on_loop
async def test_the_token_that_is_looked_at_is_in_sight_in_a_long_answer() -> None:
    async with running(ScriptedWorker(" ".join(f"word{n}" for n in range(300))), size=(80, 30)) as driver:
        await driver.ask("What?")
        await driver.type("/tokens", "enter")
        await driver.shows("Token 1 of 300")
        await driver.pilot.press("end")
        await driver.shows("word299")
        await driver.pilot.press("home")
        await driver.shows("word0 ")


@on_loop
async def test_another_token_is_gone_on_from_as_a_branch() -> None:
    async with running(ModelWorker, Load(), (SCENE,), size=(100, 30), settings=Settings(alternatives=True)) as driver:
        session = driver.session
        await driver.until(lambda: session.model)
        await driver.ask("Describe the image.")
        first = session.conversation.answer_with_tokens
        await driver.type("/tokens", "enter")
        await driver.shows("Token ")
        await driver.pilot.press("home", "right", "right", "down", "enter")
        await driver.until(lambda: session.conversation.answer_with_tokens is not first and not session.answering)
        second = session.conversation.answer_with_tokens
        assert (first.parent, second.place) == (second.parent, (2, 2))
        before, after = ([said.token.id for said in node.tokens if said.token] for node in (first, second))
        assert after[:2] == before[:2]
        assert after[2] == choices(first.tokens[2])[1].id != before[2]
        assert (len(after) > 3, second.facts["finish"]) == (True, "stop")
        await driver.shows("‹2/2›")


@on_loop
async def test_tokens_are_listed_and_replaced_by_commands() -> None:
    async with running(ScriptedWorker("a cat"), size=(100, 30)) as driver:
        with pytest.raises(UsageError, match="no answer has alternatives"):
            commands.run(driver.session, "/tokens")
        await driver.ask("What?")
        reply = commands.run(driver.session, "/tokens")
        assert isinstance(reply, Open)
        assert "  2   90%  ' cat'                2 ' dog' 5%" in reply.text
        for wrong in ("2 3", "0 1", "3 1"):
            with pytest.raises(UsageError, match="no such token"):
                commands.run(driver.session, f"/instead {wrong}")
        commands.run(driver.session, "/instead 2 2")
        await driver.until(lambda: not driver.session.answering)
        assert driver.session.conversation.answers[0].place == (2, 2)
