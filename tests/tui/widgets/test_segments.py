"""Growing Markdown is cut where it is invisible."""

import asyncio
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from screen import on_loop, running
from scripted import ScriptedWorker
from textual.app import App

from mlx_llava.tui.session.conversation import Conversation, Node
from mlx_llava.tui.widgets import turns
from mlx_llava.tui.widgets.markdown import AnswerText
from mlx_llava.tui.widgets.segments import MIN_LINES, Segments
from mlx_llava.tui.widgets.turns import AnswerTurn

LINES = "- one|  more|  - inner|12. two|* **b**|text||# head|```|```py|~~~|x = 1|-|1.|a `b`".split("|")
texts = st.lists(st.sampled_from(LINES), max_size=120).map("\n".join)


def grown(text: str, sizes: list[int]) -> list[str]:
    """The parts of a text that arrives in fragments of these sizes."""
    segments, parts, at = Segments(), [""], 0
    for size in [*sizes, len(text)]:
        first, *others = segments.add(text[at : at + size])
        parts[-1] += first
        parts += others
        at += size
    return parts


def shown(text: str) -> str:
    return MarkdownIt("gfm-like", {"html": False}).render(text)


@given(texts, st.lists(st.integers(1, 9), max_size=200))
def test_cuts_do_not_depend_on_the_fragments(text: str, sizes: list[int]) -> None:
    assert grown(f"{text}\n", sizes) == grown(f"{text}\n", [])


@given(texts, st.lists(st.integers(1, 9), max_size=200))
def test_every_word_is_shown_once_and_in_order(text: str, sizes: list[int]) -> None:
    words = re.sub(r"<[^>]*>", " ", shown(text + "\n")).split()
    assert re.sub(r"<[^>]*>", " ", "\n".join(map(shown, grown(text + "\n", sizes)))).split() == words


def test_only_long_lists_and_long_code_are_cut() -> None:
    items = "".join(f"- item {n}\n" for n in range(100))
    assert max(part.count("\n") for part in grown(items, [])) <= MIN_LINES + 1
    code = "```python\n" + "".join(f"x = {n}\n" for n in range(100)) + "```\n"
    parts = grown(code, [])
    assert max(part.count("\n") for part in parts) <= MIN_LINES + 3
    assert all(part.startswith("```python\n") and part.endswith("```\n") for part in parts)
    assert grown("word\n" * 100, []) == ["word\n" * 100]
    assert len(grown(items[:100] + code[:100], [])) == 1
    steps = "".join(f"- step {n}\n\n  ```\n  x = {n}\n  ```\n" for n in range(30))
    assert len(grown(steps, [])) > 5


def test_text_that_may_become_a_mark_is_held_back() -> None:
    segments = Segments()
    assert [segments.add(text) for text in ("- a\n", "*", " **", "b", "**\n", "3", ".", " c")] == [
        ["- a\n"], [""], [""], ["* **b"], ["**\n"], [""], [""], ["3. c"]
    ]  # fmt: skip


CODE = "".join(f"x = {n}\n" for n in range(50))
ANSWERS = {
    "bullets": "".join(f"- item {n}\n" for n in range(50)),
    "bold": "".join(f"* **Item {n}:** words and words\n" for n in range(50)),
    "loose": "".join(f"- item {n}\n\n  more of it\n\n" for n in range(30)),
    "nested": "".join(f"- item {n}\n  1. inner\n  2. inner\n" for n in range(20)),
    "numbers": "".join(f"{n}. item\n   - inner\n" for n in range(1, 100)),
    "the same number": "1. item\n" * 45,
    "parts": "".join(f"### Part {n}\n\nWords.\n\n- a\n- b\n- c\n\n" for n in range(12)),
    "bullets, then numbers": "- a\n" * 21 + "1. x\n2. y\n",
    "a rule": "Words.\n\n" * 12 + "* * *\n\nmore\n",
    "code": f"Look:\n\n```python\n{CODE}```\n\nEnd.\n",
    "code with gaps": "```python\n" + "def f():\n    pass\n\n\n" * 20 + "```\n",
    "code of a step": "1. Do:\n\n   ```python\n" + CODE.replace("x", "   x") + "   ```\n\n   then that\n2. More\n",
    "two blocks": f"```\n{CODE}```\n```\n{CODE}```\nend\n",
    "steps": "".join(f"- step {n}\n\n  ```\n  x = {n}\n  ```\n" for n in range(12)),
    "numbered steps": "".join(f"{n}. step\n\n   ```\n   x = {n}\n   ```\n" for n in range(1, 22)),
}


class Page(App[None]):
    """One answer that grows."""

    CSS_PATH = str(Path(turns.__file__).parents[1] / "style.tcss")

    def __init__(self, answer: Node) -> None:
        super().__init__()
        self.answer = answer

    def compose(self) -> list[AnswerTurn]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [AnswerTurn(self.answer)]

    def lines(self) -> list[str]:
        return [strip.text.rstrip() for strip in self.screen._compositor.render_strips()]


@pytest.mark.parametrize("name", ANSWERS)
def test_cuts_are_invisible_and_a_finished_answer_is_one_widget(name: str) -> None:
    @on_loop
    async def test() -> None:
        text, conversation = ANSWERS[name], Conversation()
        answer = conversation.add(Node("assistant"), conversation.add(Node("user")))
        app = Page(answer)
        async with app.run_test(size=(80, 300)) as pilot:
            await pilot.pause()
            turn = app.query_one(AnswerTurn)
            for start in range(0, len(text), 7):
                answer.text += text[start : start + 7]
                await turn.grow()
            await pilot.pause()
            assert len(app.query(AnswerText)) == len(grown(text, []))
            before = app.lines()
            await turn.finish()
            await pilot.pause()
            assert before == app.lines()
            assert app.query_one(AnswerText).source == text

    test()


@on_loop
async def test_a_turn_can_be_redrawn_while_it_grows() -> None:
    worker = ScriptedWorker(ANSWERS["bullets"] + ANSWERS["code"], pause=0.002)
    async with running(worker, size=(80, 40)) as driver:
        await driver.type("Go on.", "enter")
        await driver.until(lambda: driver.session.answering and driver.session.answering.start)
        images = ("off", "auto")
        while driver.session.answering:
            driver.app.chat.action_command(f"/set images {images[0]}")
            images = images[::-1]
            await asyncio.sleep(0.03)
        await driver.shows("End.")
        assert driver.session.conversation.answers[0].text == worker.answer


@on_loop
async def test_leaving_while_an_answer_grows_is_no_error() -> None:
    for wait in (0.05, 0.15, 0.3, 0.5):
        async with running(ScriptedWorker(ANSWERS["code"] * 5, pause=0.005), size=(80, 40)) as driver:
            await driver.type("Go on.", "enter")
            await driver.until(lambda: driver.session.answering and driver.session.answering.start)
            await asyncio.sleep(wait)
            driver.app.exit(0)
