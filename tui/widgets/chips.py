"""The images of the conversation as a row of chips: number, name, size, tokens."""

from dataclasses import dataclass
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import HorizontalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from mlx_llava.program.text import clean_line
from mlx_llava.tui.session.conversation import Node, NumberedImage

NAME = 20  # characters of a name on a chip


class Chip(Static, can_focus=True):
    """One image; Space switches it off or on, Delete removes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space,enter", "switch", "On/off"),
        Binding("delete,backspace,x", "remove", "Remove"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    @dataclass
    class Switched(Message):
        number: int

    @dataclass
    class Removed(Message):
        number: int

    FOCUS_ON_CLICK = False  # or the next typed space would switch it

    def __init__(self, image: NumberedImage, tokens: int | None, draft: bool) -> None:
        super().__init__(label(image, tokens), markup=False)
        self.image = image
        self.set_class(not image.on, "-off")
        self.set_class(draft, "-draft")
        self.tooltip = Content("Click to switch off or on" + ("; Delete removes" if draft else ""))

    def on_click(self) -> None:
        self.action_switch()

    def action_switch(self) -> None:
        self.post_message(self.Switched(self.image.number))

    def action_remove(self) -> None:
        self.post_message(self.Removed(self.image.number))


class Chips(HorizontalScroll, can_focus=False):
    def __init__(self) -> None:
        super().__init__(id="chips")
        self._state: tuple[object, ...] = ()

    async def show(self, images: list[NumberedImage], draft: Node, tokens: int | None) -> None:
        """Show a chip for each image; those of the draft can be removed."""
        state = (tuple((n.number, n.image.file.digest, n.on, n.node is draft) for n in images), tokens)
        if state == self._state:
            return
        self._state = state
        focused = next((chip.image.number for chip in self.query(Chip) if chip.has_focus), None)
        with self.app.batch_update():
            await self.remove_children()
            await self.mount_all(Chip(image, tokens, image.node is draft) for image in images)
        self.display = bool(images)
        for chip in self.query(Chip):
            if chip.image.number == focused:
                chip.focus()


def label(image: NumberedImage, tokens: int | None) -> str:
    width, height = image.image.size
    cost = "off" if not image.on else f"{tokens} tok" if tokens else "…"
    return f"{image.number} {clean_line(image.image.name, NAME)} {width}×{height} · {cost}"
