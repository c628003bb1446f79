"""The screens before the chat: pictures, settings, chats, models; with a scripted worker."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from screen import ScriptedWorker, on_loop, running
from spine import EMBEDDED

from mlx_llava.engine.messages import Load
from mlx_llava.errors import ConversionError
from mlx_llava.tui.history.history import History
from mlx_llava.tui.session.settings import Settings

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
OTHER = EMBEDDED / "examples" / "three_shapes.png"


@on_loop
async def test_pictures_are_seen_through_the_model_s_eyes() -> None:
    async with running(ScriptedWorker(), images=(SCENE, OTHER), size=(120, 36)) as driver:
        await driver.until(lambda: driver.session.engine.usage and driver.session.engine.usage.total > 1000)
        await driver.pilot.press("f3")
        await driver.shows("Picture 2 of 2: three_shapes.png")
        await driver.shows("it is square already")
        await driver.pilot.press("left")
        await driver.shows("25% of it is padding")
        await driver.shows("24×24 patches, 576 tokens")
        await driver.pilot.press("f")
        await driver.shows("25% is cut off, left and right")
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.app.screen is driver.app.chat)


@on_loop
async def test_settings_change_on_their_screen_and_reach_the_model() -> None:
    worker = ScriptedWorker()
    async with running(worker, size=(100, 40)) as driver:
        await driver.pilot.press("f4")
        await driver.shows("How a picture becomes a square.")
        await driver.pilot.press(*["down"] * 3, "enter", *"999", "enter")
        await driver.shows("must be a number from 0 to 100")
        await driver.pilot.press("end", *["backspace"] * 4, *"0.7", "enter", "escape")
        await driver.ask("Hm?")
        assert worker.questions[0].answer_settings.sampling.temperature == 0.7


@on_loop
async def test_chats_are_found_opened_pinned_and_deleted(tmp_path: Path) -> None:
    from mlx_llava.tui.history.history import History

    worker = ScriptedWorker(lambda ask: f"about {ask.exchanges[-1].question}")
    async with running(worker, history=History(tmp_path)) as driver:
        for question in ("first thing", "second thing"):
            await driver.ask(question)
            await driver.type("/new", "enter")
            await driver.until(lambda: not driver.session.conversation.path())
        await driver.pilot.press("f2")
        await driver.shows("second thing")
        await driver.pilot.press(*"first")
        await driver.until(lambda: "second thing" not in driver.text())
        await driver.pilot.press("enter")
        await driver.shows("about first thing")
        await driver.ask("more")
        assert [e.question for e in worker.questions[-1].exchanges] == ["first thing", "more"]
        await driver.pilot.press("f2", "down", "down", "p")
        await driver.shows("★ second thing")
        await driver.pilot.press("d", "d")
        await driver.until(lambda: "second thing" not in driver.text())
        assert [info.title for info in driver.session.record.history.chats()] == ["first thing"]


@on_loop
async def test_the_first_screen_says_what_a_download_costs_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))
    monkeypatch.setattr("mlx_llava.catalog.offers.memory", lambda: 16_000_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("", (), {"free": 10**12}))
    fetched: list[str] = []

    async def fetch(source: str, folder: Path) -> AsyncGenerator[str, None]:
        fetched.append(source)
        yield "Fetching 1 of 3"
        raise ConversionError("the hub cannot be reached", "Connect.")

    monkeypatch.setattr("mlx_llava.tui.screens.welcome.fetch", fetch)
    async with running(ScriptedWorker(), None) as driver:
        await driver.shows("downloads 14.1 GB once, takes 4.4 GB of disk")
        await driver.shows("fits: this machine has 16 GB")
        await driver.pilot.press("down", "enter")
        await driver.shows("Enter again fetches 14.1 GB")
        assert not fetched
        await driver.pilot.press("enter")
        await driver.shows("the hub cannot be reached")
        assert fetched == ["llava-hf/llava-1.5-7b-hf"]


@on_loop
async def test_the_small_model_comes_with_a_picture_and_a_question() -> None:
    worker = ScriptedWorker("blue")
    async with running(worker, None) as driver:
        await driver.pilot.press("enter")
        await driver.shows("What color is the square?")
        await driver.shows("two_shapes_wide.png")
        assert driver.session.settings.model == "embedded"
        await driver.pilot.press("enter")
        await driver.shows("blue")


@on_loop
async def test_what_is_typed_over_the_first_screen_stands_in_the_prompt() -> None:
    async with running(ScriptedWorker("blue"), None, images=(SCENE,)) as driver:
        await driver.shows("Chat about pictures, on this machine")
        await driver.pilot.press(*"Why", "space", "not", "enter")
        await driver.until(lambda: driver.app.screen is driver.app.chat)
        assert driver.app.chat.composer.prompt.text == "Why "


@on_loop
async def test_a_model_is_remembered_once_it_is_there() -> None:
    async with running(ScriptedWorker(), None) as driver:
        await driver.pilot.press("escape")
        await driver.until(lambda: driver.session.model)
        driver.app.chat.start_with(Load("nowhere"))
        await driver.shows("nowhere: no such folder")
        assert driver.session.settings.model is None
        driver.app.chat.start_with(Load("somewhere"))
        await driver.until(lambda: driver.session.settings.model == "somewhere")


@on_loop
async def test_a_theme_that_is_none_is_told_of() -> None:
    async with running(ScriptedWorker()) as driver:
        await driver.type("/set theme nonesuch", "enter")
        await driver.shows("nonesuch: no such theme")
        assert driver.session.settings.theme in driver.app.available_themes


@on_loop
async def test_a_theme_that_is_gone_leaves_all_commands_in_use() -> None:
    async with running(ScriptedWorker(), settings=Settings(theme="nonesuch")) as driver:
        await driver.until(lambda: driver.session.engine.usage)
        await driver.type("/context", "enter")
        await driver.shows("reserved for the answer")


@on_loop
async def test_a_new_title_stands_at_the_top(tmp_path: Path) -> None:
    async with running(ScriptedWorker(), history=History(tmp_path)) as driver:
        await driver.ask("first question")
        await driver.type("/rename A long walk", "enter")
        await driver.until(lambda: driver.lines()[0].startswith(" A long walk"))
        await driver.type("/new", "enter")
        await driver.until(lambda: driver.lines()[0].startswith(" mlx-llava"))


@on_loop
async def test_a_picture_can_be_chosen_from_a_folder_with_a_look_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SCENE.parent)
    async with running(ScriptedWorker(), size=(100, 30)) as driver:
        await driver.pilot.press("ctrl+o")
        await driver.shows("two_shapes_wide.png")
        await driver.pilot.press(*"wide")
        await driver.shows("160×120")
        await driver.pilot.press("enter")
        await driver.shows("1 two_shapes_wide.png 160×120")


@on_loop
async def test_at_opens_the_pictures_where_a_word_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(SCENE.parent)
    async with running(ScriptedWorker(), size=(100, 30)) as driver:
        prompt = driver.app.chat.composer.prompt
        await driver.pilot.press(*"a@b", "space", "@")
        await driver.shows("two_shapes_wide.png")
        await driver.pilot.press("escape")
        await driver.until(lambda: prompt.text == "a@b @")
        await driver.pilot.press("backspace", "@")
        await driver.shows("two_shapes_wide.png")
        await driver.pilot.press(*"wide", "enter")
        await driver.shows("1 two_shapes_wide.png 160×120")
        assert prompt.text == "a@b "
