"""The pictures of the conversation as a row of chips: number, name, size, tokens."""

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlx_llava.program.text import clean_line
from mlx_llava.tui.session.conversation import Node, Numbered

NAME = 20  # characters of a name on a chip


class Chip(Static, can_focus=True):
    """One picture; Space switches it off and on, Delete takes it away."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "switch", "On/off"),
        Binding("delete,backspace,x", "remove", "Remove"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    @dataclass
    class Switched(Message):
        """The chip's picture is to be switched off or on."""

        number: int

    @dataclass
    class Removed(Message):
        """The chip's picture is to be taken away."""

        number: int

    FOCUS_ON_CLICK = False  # or a space that is typed next would switch it

    def __init__(self, shown: Numbered, tokens: int | None, draft: bool) -> None:
        super().__init__(label(shown, tokens), markup=False)
        self.shown = shown
        self.set_class(not shown.on, "-off")
        self.set_class(draft, "-draft")
        self.tooltip = Content("Click to switch off or on" + ("; Delete removes" if draft else ""))

    def on_click(self) -> None:
        """Switch it."""
        self.action_switch()

    def action_switch(self) -> None:
        """Switch the picture off or on."""
        self.post_message(self.Switched(self.shown.number))

    def action_remove(self) -> None:
        """Take the picture away."""
        self.post_message(self.Removed(self.shown.number))


class Chips(HorizontalScroll, can_focus=False):
    """All pictures in a row."""

    def __init__(self) -> None:
        super().__init__(id="chips")
        self._now: tuple[object, ...] = ()

    async def show(self, images: list[Numbered], draft: Node, tokens: int | None) -> None:
        """Show these pictures, a chip each; those of the draft can be taken away."""
        now = (tuple((n.number, n.image.file.digest, n.on, n.node is draft) for n in images), tokens)
        if now == self._now:
            return
        self._now = now
        had = next((chip.shown.number for chip in self.query(Chip) if chip.has_focus), None)
        with self.app.batch_update():
            await self.remove_children()
            await self.mount_all(Chip(shown, tokens, shown.node is draft) for shown in images)
        self.display = bool(images)
        for chip in self.query(Chip):
            if chip.shown.number == had:
                chip.focus()


def label(shown: Numbered, tokens: int | None) -> str:
    """What a chip says."""
    width, height = shown.image.size
    cost = "off" if not shown.on else f"{tokens} tok" if tokens else "…"
    return f"{shown.number} {clean_line(shown.image.name, NAME)} {width}×{height} · {cost}"
