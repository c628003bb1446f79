"""The text field for a question."""

from dataclasses import dataclass
from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.strip import Strip
from textual.widgets import TextArea

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
