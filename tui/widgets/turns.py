"""Questions and answers on the screen."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.message import Message
from textual.widget import MountError, Widget
from textual.widgets import Static

from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node
from mlx_llava.tui.widgets.image_view import ImageView
from mlx_llava.tui.widgets.segments import Segments

if TYPE_CHECKING:
    from textual.widgets import Markdown

    from mlx_llava.tui.widgets.markdown import AnswerText


@dataclass
class Wish(Message):
    """Something is wanted of a turn: `edit`, `again`, `copy`, `code`, or another branch: `previous`, `next`."""

    node: Node
    what: str


class Branches(Static):
    """‹2/3›: which of several branches is shown; a click shows the next."""

    def __init__(self, node: Node) -> None:
        super().__init__("", markup=False, classes="branches")
        self.node = node
        self.show()

    def show(self) -> None:
        """Show where the node stands now."""
        number, count = self.node.place
        self.display = count > 1
        self.update(f"‹{number}/{count}›")

    def on_click(self) -> None:
        """Show the next branch."""
        self.post_message(Wish(self.node, "next"))


class Turn(Vertical, can_focus=True):
    """A question or an answer; when it has the focus, keys act on it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "wish('copy')", "Copy"),
        Binding("left", "wish('previous')", "Other branch", show=False),
        Binding("right", "wish('next')", "Other branch", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]
    HINT = ""
    FOCUS_ON_CLICK = False  # or what is typed next would be taken for keys that act here

    def __init__(self, node: Node) -> None:
        super().__init__(classes="turn")
        self.node = node

    def action_wish(self, what: str) -> None:
        """Tell what is wanted of this turn."""
        self.post_message(Wish(self.node, what))

    def on_focus(self) -> None:
        """Show which keys act here."""
        self.query_one(".hint", Static).update(self.HINT)
        self.show_foot()

    def on_blur(self) -> None:
        """Hide them again."""
        self.query_one(".hint", Static).update("")
        self.show_foot()

    def refresh_branches(self) -> None:
        """Show anew which branch this is."""
        for branches in self.query(Branches):
            branches.show()
        self.show_foot()

    def show_foot(self) -> None:
        """Show the line below only where it says something."""
        shown = self.has_focus or self.node.place[1] > 1 or bool(self.node.facts)
        self.query(".foot").set(display=shown)

    def foot(self, text: str = "") -> Horizontal:
        """The line below: facts, branches, keys."""
        return Horizontal(
            Static(text, markup=False, classes="facts"),
            Branches(self.node),
            Static("", markup=False, classes="hint"),
            classes="foot",
        )


class QuestionTurn(Turn):
    """What was asked, with its pictures."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("e,enter", "wish('edit')", "Edit")]
    HINT = "e edit · c copy · ← → branch"

    def __init__(self, node: Node, first_number: int, show_images: bool) -> None:
        super().__init__(node)
        self.show_images = show_images
        self.first_number = first_number
        """Number of its first picture in the conversation."""

    def compose(self) -> Iterable[Widget]:
        """The question, its pictures below it."""
        if self.node.text:
            yield Static(clean(self.node.text), markup=False, classes="question")
        if self.node.images and self.show_images:
            with Horizontal(classes="pictures"):
                for n, image in enumerate(self.node.images):
                    view = ImageView(image.preview, max_columns=36, max_rows=10)
                    view.border_subtitle = f"{self.first_number + n} {clean_line(image.name, 28)}"
                    yield view
        yield self.foot()


class AnswerTurn(Turn):
    """What was answered; grows while it comes."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "wish('again')", "Answer again"),
        Binding("k", "wish('code')", "Copy code"),
        Binding("e", "wish('edit')", "Edit"),
    ]
    HINT = "c copy · k copy code · r again · e edit · ← → branch"

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.shown = 0  # characters of the node's text that are on the screen
        self._segments = Segments()
        self._drawing = asyncio.Lock()

    def compose(self) -> Iterable[Widget]:
        """The answer, and what it took."""
        from mlx_llava.tui.widgets.markdown import AnswerText

        if self.node.facts:
            self.shown = len(self.node.text)
            yield AnswerText(clean(self.node.text))
        else:
            yield AnswerText()
        yield self.foot(figures.answer_line(self.node.facts))

    async def on_mount(self) -> None:
        """Show what there is of an answer that still grows."""
        await self.grow()

    def _parts(self) -> "list[AnswerText]":
        """The answer's text; none before it is on the screen."""
        return cast("list[AnswerText]", list(self.query(".answer")))

    async def grow(self) -> None:
        """Show what has come since the last call."""
        async with self._drawing:
            with self._while_there():
                await self._grow()

    async def _grow(self) -> None:
        parts, new = self._parts(), self.node.text[self.shown :]
        if parts and new:
            self.shown = len(self.node.text)
            first, *others = self._segments.add(clean(new))
            if first:
                await parts[-1].append(first)
            for text in others:
                await self._go_on(text)

    async def _go_on(self, text: str) -> None:
        """Begin another part, so that it does not show where it begins."""
        from mlx_llava.tui.widgets.markdown import AnswerText

        before, part = self._parts()[-1], AnswerText()
        await self.mount(part, before=self.query_one(".foot"))
        await part.append(text)  # given to the constructor it would be drawn later, over what comes next
        for last, first in zip(before.children[-1:], part.children[:1], strict=False):
            if type(last) is type(first):  # else there is a gap between them
                last.add_class("-cut")
                first.add_class("-goes-on")

    async def finish(self) -> None:
        """Show the whole answer once more: parsed at once, it may read otherwise than in fragments."""
        async with self._drawing:
            with self._while_there():
                await self._finish()

    async def _finish(self) -> None:
        if parts := self._parts():
            self.shown = len(self.node.text)
            with self.app.batch_update():
                await parts[0].update(clean(self.node.text))
                for part in parts[1:]:
                    await part.remove()
            self.query_one(".facts", Static).update(figures.answer_line(self.node.facts))

    @contextmanager
    def _while_there(self) -> Iterator[None]:
        """A turn may be taken away while it is drawn: then nobody misses the rest."""
        try:
            yield
        except (MountError, NoMatches, IndexError):
            parts = self._parts()
            if self.is_attached and parts and all(part.is_attached for part in parts):
                raise

    def on_markdown_link_clicked(self, event: "Markdown.LinkClicked") -> None:
        """Links come from the model: they are shown, never opened."""
        event.stop()
        self.app.notify(clean_line(event.href), title="Link", markup=False)
