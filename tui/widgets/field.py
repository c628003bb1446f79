"""A line to type in."""

from rich.text import Text
from textual import events
from textual.widgets import Input

from mlx_llava.tui.widgets.stand_ins import decode, encode_line, symbols


class Field(Input):
    """Holds stand-ins, as the prompt does: `put` and `text` are the way in and out."""

    def __init__(self, placeholder: str = "", id: str | None = None) -> None:
        super().__init__(placeholder=placeholder, id=id, highlighter=_drawn)

    @property
    def text(self) -> str:
        return decode(self.value)

    def put(self, text: str) -> None:
        """Replace the text."""
        self.value = encode_line(text)

    def _on_paste(self, event: events.Paste) -> None:
        event.stop()
        event.prevent_default()
        self.replace(encode_line(event.text), *sorted(self.selection))


def _drawn(text: str | Text) -> Text:
    return Text(symbols(str(text)), no_wrap=True, overflow="ignore", end="")
