"""Markdown that grows is cut where it does not show."""

import re

from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from screen import on_loop, running
from scripted import ScriptedWorker
from textual.widgets import Markdown

from mlx_llava.tui.segments import LONG, Segments

line = st.sampled_from(
    [
        "- one",
        "  more",
        "  - inner",
        "12. two",
        "* **b**",
        "text",
        "",
        "# head",
        "```",
        "```py",
        "~~~",
        "x = 1",
        "-",
        "1.",
        "a `b`",
    ]
)
texts = st.lists(line, max_size=120).map("\n".join)


def grown(text: str, sizes: list[int]) -> list[str]:
    """The parts, after text has come in fragments of these sizes."""
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
def test_however_it_comes_it_is_cut_alike(text: str, sizes: list[int]) -> None:
    assert grown(f"{text}\n", sizes) == grown(f"{text}\n", [])


@given(texts, st.lists(st.integers(1, 9), max_size=200))
def test_every_word_is_shown_once_and_in_order(text: str, sizes: list[int]) -> None:
    words = re.sub(r"<[^>]*>", " ", shown(text + "\n")).split()
    assert re.sub(r"<[^>]*>", " ", "\n".join(map(shown, grown(text + "\n", sizes)))).split() == words


def test_long_lists_and_long_code_are_cut_short_ones_and_prose_are_not() -> None:
    items = "".join(f"- item {n}\n" for n in range(100))
    assert max(part.count("\n") for part in grown(items, [])) <= LONG + 1
    code = "```python\n" + "".join(f"x = {n}\n" for n in range(100)) + "```\n"
    parts = grown(code, [])
    assert max(part.count("\n") for part in parts) <= LONG + 3
    assert all(part.startswith("```python\n") and part.endswith("```\n") for part in parts)
    assert grown("word\n" * 100, []) == ["word\n" * 100]
    assert len(grown(items[:100] + code[:100], [])) == 1


@on_loop
async def test_cuts_do_not_show_and_an_answer_that_has_ended_is_one_again() -> None:
    items = "".join(f"{n}. item\n" for n in range(1, 70))
    code = "```python\n" + "".join(f"x = {n}\n" for n in range(70)) + "```\n"
    for answer, line, count in ((items, ". item", 69), (code, "x = ", 70)):
        worker = ScriptedWorker(answer, pause=0.01)
        async with running(worker, size=(80, 100)) as driver:
            await driver.type("Go on.", "enter")
            await driver.until(lambda: len(driver.app.screen.query("Markdown.answer")) > 2)
            shown = driver.lines()
            places = [n for n, text in enumerate(shown) if line in text]
            assert places == list(range(places[0], places[0] + len(places))), "\n".join(shown)
            assert len(places) > 2 * LONG
            columns = {shown[n].index(line[:2]) for n in places[10:]}
            assert len(columns) == 1
            await driver.until(lambda: not driver.session.answering)
            await driver.pilot.pause(0.2)
            (markdown,) = driver.app.screen.query("Markdown.answer").results(Markdown)
            assert markdown.source == answer
            assert driver.text().count(line) == count
            assert not markdown.query(".-cut")
