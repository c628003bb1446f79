"""The chat screen, used by hand, with a scripted worker."""

from pathlib import Path

import pytest
from screen import ScriptedWorker, answers, on_loop, running
from spine import EMBEDDED
from textual import events

from mlx_llava.tui.session.session import Opening
from mlx_llava.tui.widgets.chips import Chip
from mlx_llava.tui.widgets.turns import AnswerTurn, QuestionTurn, Turn

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
OTHER = EMBEDDED / "examples" / "three_shapes.png"


@on_loop
async def test_a_question_is_answered_below_it() -> None:
    async with running(ScriptedWorker("It is a **cat**.")) as driver:
        await driver.ask("What is this?")
        lines = driver.lines()
        question = next(n for n, line in enumerate(lines) if "What is this?" in line and n > 0)
        assert any("It is a cat." in line for line in lines[question:])  # the stars are gone: it is Markdown
        assert any("4 tokens · 100/s · first after 460 ms" in line for line in lines[question:])


@on_loop
async def test_typing_and_sending_work_before_the_model_is_there() -> None:
    worker = ScriptedWorker("Here.")
    worker.load_gate.clear()
    async with running(worker) as driver:
        await driver.shows("loading scripted")
        await driver.type("Are you there?", "enter")
        await driver.shows("Are you there?")
        worker.load_gate.set()
        await driver.shows("Here.")


@on_loop
async def test_escape_stops_and_keeps_what_was_said() -> None:
    worker = ScriptedWorker("one two three")
    worker.gate.clear()
    async with running(worker) as driver:
        await driver.type("Count.", "enter")
        await driver.shows("Esc stops")
        await driver.until(lambda: answers(driver) == ["one"])
        await driver.pilot.press("escape")
        await driver.shows("stopped")
        assert answers(driver) == ["one"]
        worker.gate.set()
        await driver.ask("Go on.")
        assert [e.answer for e in worker.questions[-1].exchanges] == ["one", None]


@on_loop
async def test_answering_again_makes_a_branch_and_branches_can_be_changed() -> None:
    worker = ScriptedWorker(lambda ask: f"answer {ask.number}")
    async with running(worker) as driver:
        await driver.ask("Why?")
        first = answers(driver)[0]
        await driver.pilot.press("ctrl+r")
        await driver.shows("‹2/2›")
        await driver.until(lambda: not driver.session.answering)
        assert answers(driver) != [first]
        assert len(worker.questions[-1].exchanges) == 1
        await driver.pilot.press("alt+left")
        await driver.shows("‹1/2›")
        assert answers(driver) == [first]
        await driver.ask("And then?")
        assert worker.questions[-1].exchanges[0].answer == first


@on_loop
async def test_pictures_come_by_argument_and_by_paste() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE,)) as driver:
        await driver.shows("1 two_shapes_wide.png 160×120 · 576 tok")
        driver.app.chat.composer.prompt.post_message(events.Paste(f"'{OTHER}'"))
        await driver.shows("2 three_shapes.png")
        await driver.ask("What is the difference?")
        assert [p.name for p in worker.questions[-1].exchanges[0].images] == [SCENE.name, OTHER.name]


@on_loop
async def test_a_path_and_a_question_are_told_apart(tmp_path: Path) -> None:
    shot = tmp_path / "Screenshot at 9.22.20\u202fPM.png"
    shot.write_bytes(OTHER.read_bytes())
    typed = str(shot).replace("\u202f", " ")  # as clipboards fold it
    worker = ScriptedWorker()
    async with running(worker) as driver:
        prompt = driver.app.chat.composer.prompt
        prompt.post_message(events.Paste(f"{SCENE} what is this?"))
        await driver.until(lambda: driver.session.images() and prompt.text == "what is this?")
        await driver.pilot.press("enter")
        await driver.until(lambda: worker.questions)
        await driver.until(lambda: not driver.session.answering)
        await driver.type(f"{typed} And this?", "enter")
        await driver.until(lambda: len(worker.questions) == 2 and not driver.session.answering)
        asked = worker.questions[-1].exchanges
        assert [(e.question, [p.name for p in e.images]) for e in asked] == [
            ("what is this?", [SCENE.name]),
            ("And this?", [shot.name]),
        ]


@pytest.mark.parametrize("text", ["/tmp/no such/shot at 9.png", "/tmp/none.png what is this?"])
@on_loop
async def test_a_missing_image_is_told_and_not_asked_about(text: str) -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        driver.app.chat.composer.prompt.post_message(events.Paste(text))
        await driver.shows("no such file")
        await driver.pilot.press("enter")
        await driver.pilot.pause(0.2)
        driver.app.chat.begin(Opening(images=(Path("/tmp/none.png"),), question="What?"))
        await driver.until(lambda: driver.app.chat.composer.prompt.text == "What?")
        assert not worker.questions


@on_loop
async def test_a_correction_is_shown() -> None:
    async with running(ScriptedWorker("It is red.")) as driver:
        await driver.ask("What color?")
        await driver.type("/correct It is **scarlet**.", "enter")
        await driver.shows("It is scarlet.")
        assert "It is red." not in driver.text()


@on_loop
async def test_pasted_text_is_text() -> None:
    async with running(ScriptedWorker()) as driver:
        driver.app.chat.composer.prompt.post_message(events.Paste("cat.png is\na \x1b[31mname"))
        await driver.until(lambda: "name" in driver.app.chat.composer.prompt.text)
        assert driver.app.chat.composer.prompt.text == "cat.png is\na \x1b[31mname"
        assert "a ␛[31mname" in driver.text()


@on_loop
async def test_a_picture_that_is_none_is_told_of_and_leaves_the_question(tmp_path: Path) -> None:
    fake = tmp_path / "fake.png"
    fake.write_text("no picture")
    async with running(ScriptedWorker(), images=(fake,)) as driver:
        await driver.shows("not an image in a supported format")
        assert not driver.session.images()


@on_loop
async def test_a_picture_can_be_switched_off_and_its_tokens_are_saved() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE, OTHER)) as driver:
        await driver.ask("What is the difference?")
        await driver.shows("/2048")
        await driver.type("/off 1", "enter")
        await driver.shows("1 two_shapes_wide.png 160×120 · off")
        await driver.ask("And now?")
        assert [p.name for e in worker.questions[-1].exchanges for p in e.images] == [OTHER.name]
        chip = driver.app.chat.query(Chip).first()
        chip.focus()
        await driver.pilot.press("space", "escape")
        await driver.ask("And with both?")
        assert len(worker.questions[-1].exchanges[0].images) == 2


@on_loop
async def test_a_picture_can_be_removed_from_the_draft() -> None:
    async with running(ScriptedWorker(), images=(SCENE, OTHER)) as driver:
        await driver.shows("2 three_shapes.png")
        driver.app.chat.query(Chip).first().focus()
        await driver.pilot.press("delete")
        await driver.until(lambda: len(driver.app.chat.query(Chip)) == 1)
        assert [shown.image.name for shown in driver.session.images()] == [OTHER.name]


@on_loop
async def test_a_prompt_that_is_too_long_is_warned_of_before_it_is_sent() -> None:
    async with running(ScriptedWorker(), images=(SCENE,) * 4) as driver:
        await driver.shows("too long: 2339 of 2048 tokens")
        await driver.type("/drop 4", "enter")
        await driver.until(lambda: "too long" not in driver.text())


@on_loop
async def test_two_lines_make_one_question() -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        await driver.type("one", "ctrl+j")
        await driver.type("two\\", "enter")
        await driver.type("three", "enter")
        await driver.until(lambda: worker.questions)
        assert worker.questions[0].exchanges[0].question == "one\ntwo\nthree"


@on_loop
async def test_letters_and_enter_that_come_together_lose_nothing() -> None:
    worker = ScriptedWorker("ok")
    async with running(worker) as driver:
        prompt = driver.app.chat.composer.prompt
        for n in range(40):
            text = f"question {n:02d}"
            for letter in text:
                prompt.post_message(events.Key({" ": "space"}.get(letter, letter), letter))
            prompt.post_message(events.Key("enter", "\r"))
            await driver.until(lambda n=n: len(worker.questions) == n + 1 and not driver.session.answering)
            assert worker.questions[-1].exchanges[-1].question == text
            await driver.type("/new", "enter")
            await driver.until(lambda: not driver.session.conversation.path())


@on_loop
async def test_a_crash_leaves_the_conversation_and_a_way_on() -> None:
    worker = ScriptedWorker("fine")
    async with running(worker) as driver:
        await driver.ask("Are you well?")
        worker.failure = ZeroDivisionError("no reason")
        await driver.type("And now?", "enter")
        await driver.shows("The engine crashed: ZeroDivisionError: no reason")
        await driver.shows("the engine crashed")
        assert answers(driver) == ["fine"]
        worker.failure = None
        await driver.type("/model again", "enter")
        await driver.shows("○ ready")
        await driver.pilot.press("ctrl+r")
        await driver.until(lambda: answers(driver) == ["fine", "fine"])


@on_loop
async def test_a_model_that_does_not_load_leaves_the_one_before() -> None:
    async with running(ScriptedWorker()) as driver:
        await driver.shows("○ ready")
        await driver.type("/model nowhere", "enter")
        await driver.shows("nowhere: no such folder")
        await driver.ask("Still there?")


@on_loop
async def test_after_a_crash_there_is_no_model_before() -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        await driver.ask("Are you well?")
        worker.failure = ZeroDivisionError("no reason")
        await driver.type("And now?", "enter")
        await driver.until(lambda: driver.session.engine.crashed)
        worker.failure = None
        await driver.type("/model nowhere", "enter")
        await driver.shows("nowhere: no such folder")
        assert driver.session.model is None


@on_loop
async def test_turns_can_be_used_with_the_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr("mlx_llava.tui.app.copy", lambda text: copied.append(text) or True)
    async with running(ScriptedWorker("See:\n\n```python\nprint(1)\n```\n")) as driver:
        await driver.ask("Code?")
        driver.app.chat.query(AnswerTurn).first().focus()
        await driver.shows("k copy code")
        await driver.pilot.press("k", "c", "r")
        await driver.shows("‹2/2›")
        await driver.until(lambda: not driver.session.answering)
        driver.app.chat.query(QuestionTurn).first().focus()
        await driver.pilot.press("e")
        await driver.shows("Editing a question")
        assert copied == ["print(1)\n", "See:\n\n```python\nprint(1)\n```\n"]


@on_loop
async def test_ctrl_c_stops_then_empties_then_leaves() -> None:
    worker = ScriptedWorker("one two")
    worker.gate.clear()
    async with running(worker) as driver:
        await driver.type("Count.", "enter")
        await driver.until(lambda: answers(driver) == ["one"])
        await driver.pilot.press("ctrl+c")
        await driver.until(lambda: not driver.session.answering)
        await driver.type("draft", "ctrl+c")
        assert driver.app.chat.composer.prompt.text == ""
        await driver.pilot.press("ctrl+c")
        await driver.shows("Press Ctrl+C again to leave.")
        await driver.pilot.press("ctrl+c")
        assert driver.app.return_code is None or driver.app._exit
        assert driver.app.return_value == 130


@on_loop
async def test_ctrl_c_is_heard_wherever_the_focus_is() -> None:
    worker = ScriptedWorker("one two")
    worker.gate.clear()
    async with running(worker) as driver:
        await driver.type("Count.", "enter")
        await driver.until(lambda: answers(driver) == ["one"])
        await driver.pilot.press("shift+tab", "ctrl+c")
        await driver.until(lambda: not driver.session.answering)
        await driver.type("draft", "f4", "ctrl+c", "ctrl+c")
        assert driver.app.chat.composer.prompt.text == "draft"
        assert driver.app.return_value == 130


@on_loop
async def test_an_unknown_command_is_told_of_and_a_path_is_no_command() -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        await driver.type("/agian", "enter")
        await driver.shows("Did you mean /again?")
        await driver.ask("/usr/bin is what?")
        assert worker.questions[0].exchanges[0].question == "/usr/bin is what?"


@on_loop
async def test_commands_are_hinted_at_and_completed() -> None:
    async with running(ScriptedWorker()) as driver:
        await driver.type("/pic")
        await driver.shows("list the pictures of this chat")
        await driver.pilot.press("tab")
        assert driver.app.chat.composer.prompt.text == "/pictures "


@on_loop
async def test_a_long_chat_shows_its_end_and_brings_the_rest_when_asked() -> None:
    async with running(ScriptedWorker("yes")) as driver:
        conversation = driver.session.conversation
        from mlx_llava.tui.session.conversation import Node

        for n in range(60):
            conversation.add(Node("user", f"question {n}"))
            conversation.add(Node("assistant", f"answer {n}"))
        await driver.app.chat.redraw()
        assert len(driver.app.chat.query(Turn)) == 40
        await driver.app.chat.log_view.show_older()
        assert len(driver.app.chat.query(Turn)) == 80
        assert driver.app.chat.query(Turn).first().node.text == "question 20"


@on_loop
async def test_it_bears_any_size() -> None:
    async with running(ScriptedWorker("word " * 300), images=(SCENE,)) as driver:
        await driver.ask("Much?")
        for size in ((1, 1), (3, 200), (200, 3), (40, 12), (160, 50)):
            await driver.pilot.resize_terminal(*size)
            await driver.pilot.pause()
        assert "Much?" in driver.text()


@on_loop
async def test_links_of_a_model_are_never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    async with running(ScriptedWorker("[here](https://example.org/x)")) as driver:
        monkeypatch.setattr(driver.app, "open_url", lambda url, **_: opened.append(url))
        await driver.ask("Where?")
        markdown = driver.app.chat.query_one(AnswerTurn).query_one("Markdown")
        from textual.widgets import Markdown

        assert isinstance(markdown, Markdown)
        markdown.post_message(Markdown.LinkClicked(markdown, "https://example.org/x"))
        await driver.shows("https://example.org/x")
        assert not opened


@on_loop
async def test_a_question_that_failed_is_left_out_and_its_pictures_stand_with_the_next() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE,)) as driver:
        worker.refusal = "too long"
        await driver.type("Why?", "enter")
        await driver.shows("too long")
        worker.refusal = ""
        await driver.ask("And now?")
        (exchange,) = worker.questions[-1].exchanges
        assert (exchange.question, len(exchange.images)) == ("And now?", 1)


@on_loop
async def test_the_screen_keeps_up_with_quick_use() -> None:
    worker = ScriptedWorker("one two three four five six")
    async with running(worker) as driver:
        for n in range(12):
            await driver.type(f"question {n}", "enter")
            await driver.until(lambda: driver.session.answering is None and driver.session.conversation.answers)
            await driver.pilot.press("ctrl+r", "escape", "ctrl+n")
            await driver.until(lambda: driver.session.answering is None)
            await driver.type("/new", "enter")
            await driver.until(lambda: not driver.session.conversation.path())
        await driver.ask("Still there?")
        await driver.shows("one two three four five six")
