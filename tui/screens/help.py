"""Help: keys and commands."""

from collections.abc import Iterable
from textwrap import fill
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.tui.session.commands import TABLE

WIDTH = 70  # columns of a line
KEYS = (
    ("Enter", "send"),
    ("Shift+Enter, Ctrl+J, \\ Enter", "new line"),
    ("Esc", "stop the answer, cancel editing"),
    ("↑ in an empty prompt", "edit the last question"),
    ("Ctrl+R", "answer again, as another branch"),
    ("Alt+← Alt+→", "previous branch, next branch"),
    ("Ctrl+N", "new chat"),
    ("PageUp PageDown", "scroll"),
    ("Tab behind a /", "complete the command"),
    ("Tab, Shift+Tab", "focus turns and pictures; there:"),
    ("  on a question", "E edit, C copy, ← → branches"),
    ("  on an answer", "C copy, K code, R again, E edit, ← →"),
    ("  on a picture", "Space off or on, Delete remove"),
    ("Ctrl+O, @", "attach a picture"),
    ("F2  F3", "chats  what the model sees"),
    ("F4  F5", "settings  models"),
    ("Ctrl+P", "all commands"),
    ("Ctrl+Z", "suspend"),
    ("Ctrl+C", "stop; clear the prompt; twice: leave"),
    ("Ctrl+Q", "leave"),
)


class HelpScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1,q,enter", "dismiss", "Close")]

    def compose(self) -> ComposeResult:
        with VerticalScroll(classes="dialog"):
            yield Static("Keys", markup=False, classes="heading")
            yield Static(table(KEYS), markup=False)
            yield Static("Commands", markup=False, classes="heading")
            yield Static(table([(command.usage, command.what) for command in TABLE]), markup=False)
            yield Static("A picture: drop or paste its file, or /image PATH. Esc closes.", markup=False, classes="keys")


def table(rows: Iterable[tuple[str, str]]) -> str:
    """Format two columns, the second one wrapped."""
    return "\n".join(
        fill(right, WIDTH, initial_indent=f"{left:29} ", subsequent_indent=" " * 30) for left, right in rows
    )
