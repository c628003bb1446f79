"""Lists of an answer look like Textual's, and take one widget."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from screen import on_loop
from textual.app import App
from textual.geometry import Offset
from textual.pilot import Pilot
from textual.selection import Selection
from textual.widgets import Markdown

from mlx_llava.tui.widgets.markdown import AnswerText, Rows, TextList, parser

LINES = [
    "a **bold** item and `code`, so long that it goes on in the next line",
    "short",
    "[a link](https://example.org) 猫がマットの上に座っている、そして眠っている",
    "one line  \n  and another",
    "first\n\n  second of the same item",
]
MARKS = ("-", "*", "1.", "7.", "98.")
MIXED = "- text\n- code:\n\n  ```\n  x = 1\n  ```\n- > quoted\n"


class Page(App[None]):
    """An app with one Markdown widget."""

    def __init__(self, shown: Markdown) -> None:
        super().__init__()
        self.shown = shown

    def compose(self) -> list[Markdown]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return [self.shown]


@asynccontextmanager
async def page(shown: Markdown, width: int) -> AsyncIterator[Pilot[None]]:
    async with Page(shown).run_test(size=(width, 60)) as pilot:
        yield pilot


def rows(app: App[None]) -> Rows:
    """The rows of the only list."""
    visual = app.query_one(TextList).visual
    assert isinstance(visual, Rows)
    return visual


async def screens(shown: Markdown, texts: list[str], width: int) -> list[list[list[tuple[str, object]]]]:
    """For each text its screen lines, as letters with their colours and styles."""
    screens = []
    async with page(shown, width) as pilot:
        for text in texts:
            await shown.update(text)
            await pilot.pause()
            strips = pilot.app.screen._compositor.render_strips()
            screens.append([[(s.text, looks(s.style)) for s in strip.simplify()] for strip in strips])
    return [[letters(line) for line in lines] for lines in screens]


def looks(style: object) -> object:
    """A style without offset and click action."""
    from rich.style import Style as RichStyle

    assert isinstance(style, RichStyle)
    return style.color, style.bgcolor, style.bold, style.italic, style.underline


def letters(line: list[tuple[str, object]]) -> list[tuple[str, object]]:
    """Letter by letter; the style of blanks is ignored."""
    return [(letter, look if letter != " " else None) for text, look in line for letter in text]


def a_list(draw: random.Random, depth: int = 0) -> str:
    """A random list, perhaps with inner lists."""
    mark, text = draw.choice(MARKS), ""
    for n in range(draw.randint(1, 4)):
        own = f"{int(mark[:-1]) + n}." if mark[-1] == "." else mark
        indent = " " * (len(own) + 1)
        item = draw.choice(LINES).replace("\n  ", f"\n{indent}")
        text += f"{own} {item}\n"
        if depth < 2 and draw.random() < 0.3:
            text += "".join(f"{indent}{line}\n" for line in a_list(draw, depth + 1).splitlines())
    return text


@on_loop
async def test_lists_look_like_textuals() -> None:
    draw = random.Random(5)
    texts = [f"before\n\n{a_list(draw)}\nafter" for _ in range(30)] + [MIXED, "- - inner", "- # head"]
    for width in (36, 70):
        ours = await screens(AnswerText(), texts, width)
        theirs = await screens(Markdown(parser_factory=parser), texts, width)
        for text, mine, its in zip(texts, ours, theirs, strict=True):
            assert mine == its, text


@on_loop
async def test_a_grown_list_equals_one_drawn_at_once() -> None:
    draw = random.Random(6)
    for _ in range(8):
        text = f"{a_list(draw)}{draw.choice(['', MIXED])}"
        at_once = await screens(AnswerText(), [text], 40)
        async with page(AnswerText(), 40) as pilot:
            shown = pilot.app.query_one(AnswerText)
            for start in range(0, len(text), 7):
                await shown.append(text[start : start + 7])
            await pilot.pause()
            strips = pilot.app.screen._compositor.render_strips()
            grown = [letters([(s.text, looks(s.style)) for s in strip]) for strip in strips]
        assert grown == at_once[0], text


@on_loop
async def test_an_item_without_words_has_its_mark() -> None:
    for text, marks in (("- a\n-\n- c", ["• a", "• ", "• c"]), ("1. ", [" 1. "])):
        async with page(AnswerText(text), 20) as pilot:
            await pilot.pause()
            assert [line.plain for line in rows(pilot.app).lines] == marks


@on_loop
async def test_a_list_takes_one_widget_however_long() -> None:
    async with page(AnswerText("".join(f"- item {n}\n  - inner\n" for n in range(100))), 40) as pilot:
        await pilot.pause()
        assert len(pilot.app.query_one(AnswerText).query("*")) == 1


@on_loop
async def test_selected_text_of_a_list_is_unwrapped() -> None:
    items = (
        "one two three four five six seven",
        "https://example.org/abcdefghijklmnop",
        "そして眠っている、そして眠っている",
    )
    whole = [f"• {item}" for item in items]
    async with page(AnswerText("".join(f"- {item}\n" for item in items)), 20) as pilot:
        await pilot.pause()
        block, screen = pilot.app.query_one(TextList), pilot.app.screen
        assert block.size.height > len(items)
        assert block.get_selection(Selection(None, None)) == ("\n".join(whole), "\n")
        strips = screen._compositor.render_strips()
        for y in range(block.region.y, block.region.bottom):
            _, offset = screen.get_widget_and_offset_at(block.region.x + 2, y)
            assert offset is not None
            assert strips[y].crop(block.region.x + 2).text.startswith(whole[offset.y][offset.x])
        start, end = Offset(6, 0), Offset(4, 1)
        before = block.get_selection(Selection(start, end))
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        assert block.size.height == len(items)
        assert block.get_selection(Selection(start, end)) == before == ("two three four five six seven\n• ht", "\n")


@on_loop
async def test_a_column_too_narrow_for_the_marks_still_shows_every_letter() -> None:
    for width in range(5, 16):
        async with page(AnswerText("98. one\n    - two\n    - threefour\n"), width) as pilot:
            await pilot.pause()
            lines = ["".join(s.text for s in strip) for strip in pilot.app.screen._compositor.render_strips()]
            assert "".join("".join(lines).split()) == "98.one•two•threefour"


@on_loop
async def test_a_link_in_a_list_is_reported() -> None:
    links: list[str] = []

    class Listening(Page):
        def on_markdown_link_clicked(self, event: Markdown.LinkClicked) -> None:
            links.append(event.href)

    async with Listening(AnswerText("- text and [here](https://example.org/x)\n")).run_test(size=(40, 10)) as pilot:
        await pilot.pause()
        await pilot.click(TextList, offset=(12, 0))
        await pilot.pause()
    assert links == ["https://example.org/x"]
