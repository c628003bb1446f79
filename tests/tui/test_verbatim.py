"""The model gets what a person typed or pasted, character by character; only the screen is protected."""

import asyncio
import json
import unicodedata
from collections.abc import Awaitable, Callable
from io import StringIO
from pathlib import Path

import pytest
from screen import RULING, Driver, ScriptedWorker, quiet_history, running
from textual import events
from textual._xterm_parser import XTermParser

from mlx_llava.engine.messages import Load
from mlx_llava.engine.thread import Engine
from mlx_llava.tui.history.history import History
from mlx_llava.tui.plain import Talk, talk
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings
from mlx_llava.tui.widgets.field import Field

TEXTS = {
    "zero-width space, Khmer": "មួយ\u200bពីរ",
    "right-to-left mark": "זה\u200f?",
    "soft hyphen": "co\u00adop",
    "byte order mark": "\ufeffHi",
    "word joiner": "a\u2060b",
    "joiner in emoji": "👩\u200d🚀",
    "joiner after ASCII": "a\u200db",
    "non-joiner, Persian": "\u0645\u06cc\u200c\u062e",
    "flag of England": "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "override": "a\u202etxt.gnp\u202cb",
    "private use": "\U000f0001\U0010fffd\ue000",
    "many marks": "a" + "\u0301" * 20 + "b",
    "no-break space": "9.22\u00a0h\u202fPM",
    "combining grapheme joiner": "a\u034fb",
    "decomposed": unicodedata.normalize("NFD", "é가"),
}
WORDS = " ".join(TEXTS.values())
PASTED = f"{WORDS} line\u2028end\x85 page\x0c \x1b[31mred\x9b0m bell\x07 {'x' * 10_000}\n\tsecond {WORDS}"
Way = Callable[[Driver], Awaitable[None]]


def question(worker: ScriptedWorker) -> str:
    return worker.questions[-1].exchanges[-1].question


def typed(text: str) -> list[events.Key]:
    """What Textual makes of the bytes that a keyboard or an input method sends."""
    return [event for event in XTermParser().feed(text) if isinstance(event, events.Key)]


async def paste(driver: Driver, text: str, *keys: str) -> None:
    driver.app.post_message(events.Paste(text))
    await driver.until(lambda: driver.app.chat.composer.prompt.text)
    await driver.pilot.press(*keys)


async def asked(driver: Driver, worker: ScriptedWorker, count: int = 1) -> None:
    await driver.until(lambda: len(worker.questions) == count and not driver.session.answering)


def on_screen(test: Callable[[Driver, ScriptedWorker], Awaitable[None]], history: History | None = None) -> None:
    async def run() -> None:
        worker = ScriptedWorker()
        async with running(worker, history=history) as driver:
            await test(driver, worker)

    asyncio.run(run())


def test_typed_text_arrives() -> None:
    async def test(driver: Driver, worker: ScriptedWorker) -> None:
        for event in typed(f"{WORDS}\r"):
            driver.app.post_message(event)
        await asked(driver, worker)
        assert question(worker) == WORDS

    on_screen(test)


def test_pasted_text_arrives_is_edited_and_copied_and_the_screen_is_safe() -> None:
    async def test(driver: Driver, worker: ScriptedWorker) -> None:
        prompt = driver.app.chat.composer.prompt
        await paste(driver, PASTED)
        assert not RULING.search(driver.text())
        prompt.select_all()
        assert prompt.selected_text == PASTED
        prompt.action_cut()
        await driver.pilot.pause()
        assert (prompt.text, driver.app.clipboard) == ("", PASTED)
        prompt.action_paste()
        assert prompt.text == PASTED
        prompt.action_undo()
        prompt.action_redo()
        await driver.pilot.press("enter")
        await asked(driver, worker)
        assert question(worker) == PASTED
        await driver.pilot.press("up")  # edit it
        await driver.until(lambda: prompt.text == PASTED)
        assert not RULING.search(driver.text())
        await driver.pilot.press("!", "enter")
        await asked(driver, worker, 2)
        assert question(worker) == f"{PASTED}!"

    on_screen(test)


def test_a_correction_and_the_system_prompt_arrive(tmp_path: Path) -> None:
    async def test(driver: Driver, worker: ScriptedWorker) -> None:
        await driver.ask("Hi")
        await driver.type(f"/correct {WORDS}", "enter")
        await driver.type(f"/set system {WORDS}", "enter")
        await driver.ask("And?")
        assert worker.questions[-1].exchanges[0].answer == worker.questions[-1].answer_settings.system == WORDS
        await driver.type("/correct", "enter")
        await driver.until(lambda: driver.app.chat.composer.prompt.text)
        driver.app.chat.composer.fill("")
        await paste(driver, PASTED, "enter")
        await driver.until(lambda: driver.session.conversation.tip.text == PASTED)
        await driver.type(f"/export json {tmp_path / 'chat.json'}", "enter")
        await driver.until((tmp_path / "chat.json").exists)
        assert json.loads((tmp_path / "chat.json").read_text())["messages"][-1]["text"] == PASTED

    on_screen(test, History(tmp_path / "data"))


def test_a_first_question_and_a_reopened_chat_arrive(tmp_path: Path) -> None:
    async def ask(driver: Driver, worker: ScriptedWorker) -> None:
        driver.app.chat.begin(Opening(question=PASTED))
        await asked(driver, worker)
        assert question(worker) == PASTED

    async def reopen(driver: Driver, worker: ScriptedWorker) -> None:
        await driver.type("/open 1", "enter")
        await driver.until(lambda: driver.session.conversation.questions)
        await driver.ask("And?")
        assert worker.questions[-1].exchanges[0].question == PASTED

    on_screen(ask, History(tmp_path))
    on_screen(reopen, History(tmp_path))


def test_a_field_of_a_dialog_is_safe_and_keeps_the_text() -> None:
    async def test(driver: Driver, worker: ScriptedWorker) -> None:
        driver.session.set("system", "a\x1b[2Jb\nc")
        driver.app.chat.open("settings")
        await driver.pilot.pause()
        await driver.pilot.press("enter")  # the first setting is the system prompt
        await driver.shows("a␛[2Jb␤c")
        field = driver.app.screen.query_one(Field)
        field.post_message(events.Paste(PASTED))
        await driver.until(lambda: field.text == PASTED)  # the text was selected
        assert not RULING.search(driver.text())
        await driver.pilot.press("enter")
        assert driver.session.settings.system == PASTED

    on_screen(test)


def plain_session(worker: ScriptedWorker) -> Session:
    return Session(lambda: Engine(lambda: worker), Settings(), Record(quiet_history()))


def test_plain_lines_arrive() -> None:
    worker = ScriptedWorker()
    session = plain_session(worker)
    chat = Talk(session, interactive=False)
    session.engine.start()
    session.load(Load())
    chat.listen()
    for line in (WORDS, f"/set system {WORDS}", f"/correct {WORDS}", "/edit", PASTED):
        assert chat.line(line)
    session.close()
    first, second = worker.questions
    assert (first.exchanges[0].question, second.exchanges[-1].question) == (WORDS, PASTED)
    assert second.answer_settings.system == WORDS


def test_piped_lines_arrive_without_the_mark_of_their_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO(f"\ufeff{WORDS}\n\ufeffHi\n"))
    worker = ScriptedWorker()
    talk(plain_session(worker), Opening(Load(), question=PASTED))
    assert [ask.exchanges[-1].question for ask in worker.questions] == [PASTED, WORDS, "\ufeffHi"]
