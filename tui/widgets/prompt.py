"""The text field for a question."""

import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult, Location

from mlx_llava.tui.widgets.stand_ins import decode, encode, symbols

NEWLINES = ("shift+enter", "ctrl+j", "alt+enter")


class Prompt(TextArea):
    """Enter sends; Shift+Enter, Ctrl+J, or a backslash before Enter start a new line.

    Keys are read in `_on_key`, not bound: a binding would run before letters that arrived in the same read.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+z", "app.suspend_process", "Suspend", show=False),
        Binding("ctrl+underscore", "undo", "Undo", show=False),
    ]

    @dataclass
    class Sent(Message):
        text: str

    @dataclass
    class Pasted(Message):
        text: str

    class Recalled(Message):
        """Up was pressed in an empty prompt."""

    class ImageWanted(Message):
        """@ was typed at the start of a word."""

    @dataclass
    class Completed(Message):
        text: str

    def __init__(self) -> None:
        super().__init__(
            id="prompt", show_line_numbers=False, soft_wrap=True, tab_behavior="focus", highlight_cursor_line=False
        )
        self.placeholder = "Ask something — drop a picture here, / for commands, F1 for help"

    def put(self, text: str) -> None:
        """Replace the text, and put the cursor at its end."""
        self.load_text(text)
        self.move_cursor(self.document.end)

    def write(self, text: str) -> None:
        """Replace the selection, and put the cursor behind the text."""
        self.edit(Edit(text, *self.selection, maintain_selection_offset=False))

    def undo(self) -> None:
        """Undo the last edits; Textual looks for the cursor before it restores it, perhaps in a line that is gone."""
        if self.history.undo_stack:
            self.move_cursor((0, 0))
        super().undo()

    @property
    def text(self) -> str:
        """The question, with the characters that stand-ins stand for."""
        return decode(super().text)

    @text.setter
    def text(self, value: str) -> None:
        self.load_text(value)

    def load_text(self, text: str) -> None:
        super().load_text(encode(text))

    def edit(self, edit: Edit) -> EditResult:
        edit.text = encode(edit.text)
        result = super().edit(edit)
        return EditResult(result.end_location, decode(result.replaced_text))

    def get_text_range(self, start: Location, end: Location) -> str:
        return decode(super().get_text_range(start, end))

    def get_line(self, line_index: int) -> Text:
        return Text(symbols(self.document.get_line(line_index)), end="", no_wrap=True)

    def render_line(self, y: int) -> Strip:
        """Render a row; Textual cannot wrap the placeholder in no space."""
        return super().render_line(y) if self.content_size.width > 0 else Strip.blank(0)

    async def _on_key(self, event: events.Key) -> None:
        if self._handled(event):
            event.stop()
            event.prevent_default()
        else:
            await super()._on_key(event)

    def _handled(self, event: events.Key) -> bool:
        if event.key == "enter":
            self._enter()
        elif event.key in NEWLINES:
            self.insert("\n")
        elif event.key == "up" and not self.text:
            self.post_message(self.Recalled())
        elif event.character == "@" and self._word_begins():
            self.post_message(self.ImageWanted())
        elif hidden(event):
            self.write(event.character or "")
        elif event.key == "tab" and self.text.startswith("/") and " " not in self.text:
            self.post_message(self.Completed(self.text))
        else:
            return False
        return True

    def _word_begins(self) -> bool:
        row, column = self.cursor_location
        return not column or self.document.get_line(row)[column - 1].isspace()

    def _enter(self) -> None:
        row, column = self.cursor_location
        if column and self.document.get_line(row)[column - 1] == "\\":
            self.delete((row, column - 1), (row, column))
            self.insert("\n")
        elif self.text.strip():
            text = self.text
            self.load_text("")
            self.post_message(self.Sent(text))

    async def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.post_message(self.Pasted(event.text))


def hidden(event: events.Key) -> bool:
    """Whether a typed character has no look of its own, like the joiners in emoji; Textual would ignore it."""
    character = event.character
    return character is not None and not event.is_printable and unicodedata.category(character) != "Cc"
