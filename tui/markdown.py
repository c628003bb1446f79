"""Markdown as answers show it: Textual's, but a list that holds text alone is one widget, not three for each item."""

from collections.abc import Iterator
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
from textual.widgets._markdown import (  # the blocks that BLOCKS names have no other address
    MarkdownBlock,
    MarkdownBulletList,
    MarkdownList,
    MarkdownListItem,
    MarkdownOrderedList,
    MarkdownParagraph,
)

Row = tuple[str, Content]  # what stands before a text, and the text


class Rows(Visual):
    """Texts below each other, each behind its mark; what does not fit in a line goes on below the text."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows
        self._width = 0
        self._text = Content("")  # as it is wrapped at the last width
        self._begins: list[bool] = []  # for each of its lines, whether it is more than the rest of the one before

    def wrapped(self, width: int) -> Content:
        """The lines at a width, as one text."""
        if width != self._width:
            self._width, self._begins = width, []
            self._text = Content("\n").join(line for row in self.rows for line in self._wrap(*row))
        return self._text

    def _wrap(self, mark: str, text: Content) -> Iterator[Content]:
        first = Content.styled(mark, ".mark")
        for line in text.split(allow_blank=True) or [text]:
            for n, part in enumerate(line.wrap(max(self._width - first.cell_length, 1)) or [line]):
                self._begins.append(n == 0)
                yield first + part
                first = Content(" " * first.cell_length)

    def selected(self, selection: Selection) -> str:
        """What was selected at the last width, without the ends of lines that come from wrapping."""
        lines = selection.extract(self.wrapped(self._width).plain).split("\n")
        start = selection.start.y if selection.start else 0
        text = ""
        for line, begins in zip(lines, self._begins[start:], strict=False):
            text += f"\n{line}" if begins else f" {line.lstrip()}"
        return text[1:]

    def render_strips(self, width: int, height: int | None, style: Style, options: RenderOptions) -> list[Strip]:
        """The lines."""
        return self.wrapped(width).render_strips(width, height, style, options)

    def get_optimal_width(self, rules: RulesMap, container_width: int) -> int:
        """The width of the longest line if none is wrapped."""
        return max((Content(mark).cell_length + text.cell_length for mark, text in self.rows), default=0)

    def get_height(self, rules: RulesMap, width: int) -> int:
        """How many lines there are at a width."""
        self.wrapped(width)
        return len(self._begins)


class TextList(MarkdownList):
    """A list; in one widget where its items hold paragraphs and such lists alone."""

    COMPONENT_CLASSES: ClassVar[set[str]] = {"mark"}
    # the margin and what items stand in as Textual has them; a class inherits only its first base's styles
    DEFAULT_CSS = """
    TextList {
        margin: 0 0 1 0;
        Horizontal, Vertical { width: 1fr; height: auto; }
        &:dark > .mark { color: $text-primary; }
        &:light > .mark { color: $text-secondary; }
    }
    """

    def compose(self) -> ComposeResult:
        """Nothing inside, or the items as Textual shows them."""
        rows = self.rows()
        if rows is None:
            yield from super().compose()
        else:
            self._show(rows)

    def rows(self) -> list[Row] | None:
        """Every text behind its mark, also those of the lists inside; None where there is more than text."""
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
        """What stands before each item."""
        return [item.bullet for item in items]

    def get_selection(self, selection: Selection) -> tuple[str, str] | None:
        """What was selected."""
        visual = self.visual
        return (visual.selected(selection), "\n") if isinstance(visual, Rows) else super().get_selection(selection)

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
    """A list with bullets."""


class OrderedList(TextList, MarkdownOrderedList):
    """A list with numbers, which count on from the first."""

    def marks(self, items: list[MarkdownListItem]) -> list[str]:
        """The numbers, one below the other."""
        start = int(items[0].bullet)
        numbers = [f"{number}. " for number in range(start, start + len(items))]
        width = max(map(len, numbers)) + 1
        return [number.rjust(width) for number in numbers]


class AnswerText(Markdown):
    """An answer; HTML in it is shown as it is written, and a link is told of, not opened."""

    BLOCKS = {  # noqa: RUF012 - as Textual declares it
        **Markdown.BLOCKS,
        "bullet_list_open": BulletList,
        "ordered_list_open": OrderedList,
    }

    def __init__(self, text: str | None = None) -> None:
        super().__init__(text, open_links=False, classes="answer", parser_factory=parser)


def parser() -> MarkdownIt:
    """Reads Markdown as GitHub does, but takes HTML for text, instead of dropping it."""
    return MarkdownIt("gfm-like", {"html": False})


def _rows(block: MarkdownBlock) -> list[Row] | None:
    if isinstance(block, MarkdownParagraph):
        return [("", cast("Content", block.content))]
    return block.rows() if isinstance(block, TextList) else None
