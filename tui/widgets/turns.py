"""Questions and answers on the screen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.message import Message
from textual.widget import MountError
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
class TurnAction(Message):
    """The user acts on a turn: `edit`, `again`, `copy`, `code`, or shows a branch: `previous`, `next`."""

    node: Node
    name: str


class Branches(Static):
    """‹2/3›: the number of this branch; a click shows the next one."""

    def __init__(self, node: Node) -> None:
        super().__init__("", markup=False, classes="branches")
        self.node = node
        self.show()

    def show(self) -> None:
        number, count = self.node.place
        self.display = count > 1
        self.update(f"‹{number}/{count}›")

    def on_click(self) -> None:
        self.post_message(TurnAction(self.node, "next"))


class Turn(Vertical, can_focus=True):
    """A question or an answer; keys act on it while it has the focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("c", "act('copy')", "Copy"),
        Binding("left", "act('previous')", "Other branch", show=False),
        Binding("right", "act('next')", "Other branch", show=False),
        Binding("up", "app.focus_previous", show=False),
        Binding("down", "app.focus_next", show=False),
    ]
    HINT = ""
    FOCUS_ON_CLICK = False  # or the next typed letters would act on it

    def __init__(self, node: Node) -> None:
        super().__init__(classes="turn")
        self.node = node

    def action_act(self, name: str) -> None:
        self.post_message(TurnAction(self.node, name))

    def on_focus(self) -> None:
        self.query_one(".hint", Static).update(self.HINT)
        self.show_foot()

    def on_blur(self) -> None:
        self.query_one(".hint", Static).update("")
        self.show_foot()

    def refresh_branches(self) -> None:
        for branches in self.query(Branches):
            branches.show()
        self.show_foot()

    def show_foot(self) -> None:
        """Show the line below if it says anything."""
        visible = self.has_focus or self.node.place[1] > 1 or bool(self.node.facts)
        self.query(".foot").set(display=visible)

    def foot(self, text: str = "") -> Horizontal:
        """Build the line below: facts, branches, keys."""
        return Horizontal(
            Static(text, markup=False, classes="facts"),
            Branches(self.node),
            Static("", markup=False, classes="hint"),
            classes="foot",
        )


class QuestionTurn(Turn):
    """A question and its images."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("e,enter", "act('edit')", "Edit")]
    HINT = "e edit · c copy · ← → branch"

    def __init__(self, node: Node, first_number: int, show_images: bool) -> None:
        super().__init__(node)
        self.show_images = show_images
        self.first_number = first_number
        """Number of its first image in the conversation."""

    def compose(self) -> ComposeResult:
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
    """An answer; grows while it is generated."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "act('again')", "Answer again"),
        Binding("k", "act('code')", "Copy code"),
        Binding("e", "act('edit')", "Edit"),
    ]
    HINT = "c copy · k copy code · r again · e edit · ← → branch"

    def __init__(self, node: Node) -> None:
        super().__init__(node)
        self.num_drawn = 0  # characters of the node's text on the screen
        self._segments = Segments()
        self._lock = asyncio.Lock()

    def compose(self) -> ComposeResult:
        from mlx_llava.tui.widgets.markdown import AnswerText

        if self.node.facts:
            self.num_drawn = len(self.node.text)
            yield AnswerText(clean(self.node.text))
        else:
            yield AnswerText()
        yield self.foot(figures.answer_line(self.node.facts))

    async def on_mount(self) -> None:
        await self.grow()

    def _parts(self) -> "list[AnswerText]":
        """The widgets of the text, once mounted."""
        return cast("list[AnswerText]", list(self.query(".answer")))

    async def grow(self) -> None:
        """Show the text since the last call."""
        async with self._drawing():
            parts, new = self._parts(), self.node.text[self.num_drawn :]
            if parts and new:
                self.num_drawn = len(self.node.text)
                first, *others = self._segments.add(clean(new))
                if first:
                    await parts[-1].append(first)
                for text in others:
                    await self._go_on(text)

    async def _go_on(self, text: str) -> None:
        """Start another part, joined to the one before without a visible seam."""
        from mlx_llava.tui.widgets.markdown import AnswerText

        before, part = self._parts()[-1], AnswerText()
        await self.mount(part, before=self.query_one(".foot"))
        await part.append(text)  # the constructor would draw it later, over the text that follows
        for last, first in zip(before.children[-1:], part.children[:1], strict=False):
            if type(last) is type(first):  # different blocks have a gap between them
                last.add_class("-cut")
                first.add_class("-goes-on")

    async def finish(self) -> None:
        """Draw the whole answer again; parsed at once, it may differ from its fragments."""
        async with self._drawing():
            if parts := self._parts():
                self.num_drawn = len(self.node.text)
                with self.app.batch_update():
                    await parts[0].update(clean(self.node.text))
                    for part in parts[1:]:
                        await part.remove()
                self.query_one(".facts", Static).update(figures.answer_line(self.node.facts))

    @asynccontextmanager
    async def _drawing(self) -> AsyncIterator[None]:
        """Draw once at a time; ignore errors of a turn that is removed meanwhile."""
        async with self._lock:
            try:
                yield
            except (MountError, NoMatches, IndexError):
                parts = self._parts()
                if self.is_attached and parts and all(part.is_attached for part in parts):
                    raise

    def on_markdown_link_clicked(self, event: "Markdown.LinkClicked") -> None:
        """Show the link; links from a model are never opened."""
        event.stop()
        self.app.notify(clean_line(event.href), title="Link", markup=False)
