"""Markdown of answers: Textual's widget, but a list of text alone is one widget instead of three per item."""

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar, cast

from markdown_it import MarkdownIt
from textual.app import ComposeResult
from textual.content import Content
from textual.css.styles import RulesMap
from textual.selection import Selection
from textual.strip import Strip
from textual.style import Style
from textual.visual import RenderOptions, Visual
from textual.widgets import Markdown
from textual.widgets._markdown import (  # these have no public address
    MarkdownBulletList,
    MarkdownList,
    MarkdownListItem,
    MarkdownOrderedList,
    MarkdownParagraph,
)
from textual.widgets.markdown import MarkdownBlock

Row = tuple[str, Content]  # a list mark, and the text behind it


class Rows(Visual):
    """Texts one below the other, each behind its mark; wrapped lines are indented to the text."""

    def __init__(self, rows: list[Row]) -> None:
        self.lines = [
            Content.styled(" " * len(mark) if n else mark, ".mark") + line
            for mark, text in rows
            for n, line in enumerate(text.split(allow_blank=True))
        ]
        self._marks = [len(mark) for mark, text in rows for _ in text.split(allow_blank=True)]
        self._width = 0
        self._pieces: list[tuple[int, int, int]] = []  # at this width: a line's number, start and end

    def pieces(self, width: int) -> list[tuple[int, int, int]]:
        """For each screen line, the number of its text line, and the start and end in it."""
        if width != self._width:
            self._width = width
            self._pieces = [piece for number in range(len(self.lines)) for piece in self._wrapped(number)]
        return self._pieces

    def _hang(self, number: int) -> int:
        """The indent of wrapped lines: that of the text, if it leaves room for a letter."""
        return self._marks[number] if self._marks[number] < self._width else 0

    def _wrapped(self, number: int) -> Iterator[tuple[int, int, int]]:
        hang, text = self._hang(number), self.lines[number].plain
        end = hang
        for n, part in enumerate(Content(text[hang:]).wrap(max(self._width - hang, 1))):
            begin = max(text.find(part.plain, end), end)
            end = begin + len(part.plain)
            yield number, begin if n else 0, end

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """The screen lines; each knows its offset in the text, for selection by mouse."""
        selected = [self._selected(number, options) for number in range(len(self.lines))]
        plain = replace(options, selection=None)
        strips = []
        for number, begin, end in self.pieces(width)[:height]:
            drawn = selected[number][begin:end].render_strips(width, 1, style, plain) or [Strip.blank(0)]
            strip = drawn[0].apply_offsets(begin, number)
            hang = self._hang(number) if begin else 0
            strips.append(Strip.join([Strip.blank(hang, style.rich_style), strip]) if hang else strip)
        return strips

    def _selected(self, number: int, options: RenderOptions) -> Content:
        line, span = self.lines[number], options.selection and options.selection.get_span(number)
        if not span or options.selection_style is None:
            return line
        begin, end = span
        return line.stylize(options.selection_style, begin, len(line) if end == -1 else end)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """The width of the longest line without wrapping."""
        return max((line.cell_length for line in self.lines), default=0)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """The number of screen lines at a width."""
        return len(self.pieces(width))


class TextList(MarkdownList):
    """A list; one widget if its items contain only paragraphs and such lists."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"mark"}
    # margin and containers as in Textual; a class inherits only the styles of its first base
    DEFAULT_CSS = """
    TextList {
        margin: 0 0 1 0;
        Horizontal, Vertical { width: 1fr; height: auto; }
        &:dark > .mark { color: $text-primary; }
        &:light > .mark { color: $text-secondary; }
    }
    """

    def compose(self) -> ComposeResult:
        """No children, or the items as Textual composes them."""
        rows = self.rows()
        if rows is None:
            yield from super().compose()
        else:
            self._show(rows)

    def rows(self) -> list[Row] | None:
        """Each text with its mark, also of inner lists; None if an item contains anything else."""
        rows: list[Row] = []
        items = [block for block in self._blocks if isinstance(block, MarkdownListItem)]
        for mark, item in zip(self.marks(items), items, strict=True):
            inside = [_rows(block) for block in item._blocks]
            first = mark
            for some in inside or [[("", Content(""))]]:
                if some is None:
                    return None
                for inner, text in some:
                    rows.append((first + inner, text))
                    first = " " * len(mark)
        return rows

    def marks(self, items: list[MarkdownListItem]) -> list[str]:
        """The mark of each item."""
        return [item.bullet for item in items]

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """The selected text, without line breaks from wrapping."""
        if not isinstance(self.visual, Rows):
            return super().get_selection(selection)
        return selection.extract("\n".join(line.plain for line in self.visual.lines)), "\n"

    def _show(self, rows: list[Row]) -> None:
        self._blocks.clear()
        self.update(Rows(rows))

    async def _update_from_block(self, block: MarkdownBlock) -> None:
        rows = block.rows() if isinstance(block, TextList) else None
        if rows is None or type(block) is not type(self) or not isinstance(self.visual, Rows):
            await super()._update_from_block(block)
        else:
            self._copy_context(block)
            self._show(rows)


class BulletList(TextList, MarkdownBulletList):
    """A bulleted list."""


class OrderedList(TextList, MarkdownOrderedList):
    """A numbered list, which counts on from its first number."""

    def marks(self, items: list[MarkdownListItem]) -> list[str]:
        """The numbers, right-aligned."""
        start = int(items[0].bullet)
        numbers = [f"{number}. " for number in range(start, start + len(items))]
        width = max(map(len, numbers)) + 1
        return [number.rjust(width) for number in numbers]


class AnswerText(Markdown):
    """An answer. HTML is shown as text, and links are reported instead of opened."""

    BLOCKS = {**Markdown.BLOCKS, "bullet_list_open": BulletList, "ordered_list_open": OrderedList}  # noqa: RUF012 - as Textual declares it

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text, open_links=False, classes="answer", parser_factory=parser)


def parser() -> MarkdownIt:
    """A parser of GitHub's Markdown that keeps HTML as text instead of dropping it."""
    return MarkdownIt("gfm-like", {"html": False})


def _rows(block: MarkdownBlock) -> list[Row] | None:
    if isinstance(block, MarkdownParagraph):
        return [("", cast("Content", block.content))]
    return block.rows() if isinstance(block, TextList) else None
