"""Questions asked anew and answers put right, on the screen."""

from screen import ScriptedWorker, on_loop, running
from spine import EMBEDDED

from mlx_llava.tui.widgets.chips import Chip
from mlx_llava.tui.widgets.turns import AnswerTurn, QuestionTurn

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
OTHER = EMBEDDED / "examples" / "three_shapes.png"


@on_loop
async def test_an_earlier_question_can_be_edited() -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        await driver.ask("What is tihs?")
        await driver.ask("Why?")
        await driver.type("/edit 1", "enter")
        await driver.shows("Editing a question")
        assert driver.app.chat.composer.prompt.text == "What is tihs?"
        driver.app.chat.composer.prompt.load_text("What is this?")
        await driver.pilot.press("enter")
        await driver.shows("‹2/2›")
        await driver.until(lambda: not driver.session.answering)
        assert [node.text for node in driver.session.conversation.questions] == ["What is this?"]
        assert [e.question for e in worker.questions[-1].exchanges] == ["What is this?"]
        await driver.pilot.press("alt+left")
        await driver.shows("Why?")


@on_loop
async def test_an_edited_question_keeps_its_pictures() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE,)) as driver:
        await driver.ask("What is this?")
        await driver.pilot.press("up")
        await driver.shows("Editing a question")
        await driver.type(" now", "enter")
        await driver.until(lambda: len(worker.questions) == 2 and not driver.session.answering)
        (exchange,) = worker.questions[-1].exchanges
        assert (exchange.question, exchange.images[0].name) == ("What is this? now", SCENE.name)


@on_loop
async def test_an_edited_question_can_have_other_pictures_and_the_one_before_keeps_its_own() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE, OTHER)) as driver:
        await driver.ask("What is this?")
        await driver.pilot.press("up")
        await driver.shows("Editing a question")
        await driver.until(lambda: len(driver.session.draft.node.images) == 2)
        assert len(driver.session.images()) == 2
        driver.session.remove(2)
        await driver.type(" now", "enter")
        await driver.until(lambda: len(worker.questions) == 2 and not driver.session.answering)
        assert [p.name for p in worker.questions[-1].exchanges[0].images] == [SCENE.name]
        await driver.pilot.press("up")
        await driver.shows("Editing a question")
        driver.session.switch(1)
        await driver.pilot.press("escape")
        assert not driver.session.draft.node.images
        first, second = driver.session.conversation.root.children
        assert (len(first.active_images), len(second.active_images)) == (2, 1)


@on_loop
async def test_what_the_draft_was_comes_back_after_editing() -> None:
    worker = ScriptedWorker()
    async with running(worker, images=(SCENE,)) as driver:
        await driver.ask("What is this?")
        driver.app.chat.composer.attach([OTHER])
        await driver.shows("2 three_shapes.png")
        await driver.type("/edit", "enter")
        await driver.shows("Editing a question")
        await driver.type(" now", "enter")
        await driver.until(lambda: len(worker.questions) == 2 and not driver.session.answering)
        assert [p.name for p in worker.questions[-1].exchanges[0].images] == [SCENE.name]
        assert [p.name for p in driver.session.draft.node.images] == [OTHER.name]


@on_loop
async def test_an_answer_that_was_not_changed_is_not_called_edited() -> None:
    async with running(ScriptedWorker()) as driver:
        await driver.ask("Why?")
        await driver.type("/correct", "enter")
        await driver.shows("Editing an answer")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.session.draft.editing is None)
        assert "edited" not in driver.session.conversation.answers[0].facts


@on_loop
async def test_a_click_on_a_turn_leaves_the_keys_to_the_prompt() -> None:
    async with running(ScriptedWorker(), images=(SCENE,)) as driver:
        await driver.ask("Why?")
        for what in (AnswerTurn, QuestionTurn, Chip):
            await driver.pilot.click(what)
            await driver.pilot.press("e", "space")
        assert driver.app.chat.composer.prompt.text == "e e e "
        assert driver.session.draft.editing is None


@on_loop
async def test_escape_leaves_editing_and_asks_nothing() -> None:
    worker = ScriptedWorker()
    async with running(worker) as driver:
        await driver.ask("Why?")
        await driver.pilot.press("up", "escape")
        assert driver.session.draft.editing is None
        assert driver.app.chat.composer.prompt.text == ""
        await driver.ask("Next.")
        assert [e.question for e in worker.questions[-1].exchanges] == ["Why?", "Next."]
