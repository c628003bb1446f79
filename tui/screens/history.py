"""Saved chats: search, open, rename, pin, delete."""

from collections.abc import Callable
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.queries import ChatInfo
from mlx_llava.tui.session.commands.chats import day
from mlx_llava.tui.widgets.field import Field

MOST = 200  # chats in the list
KEYS = "Enter open · in the list ↓: p pin, r rename, d delete · Esc close"


class HistoryScreen(ModalScreen[int | None]):
    """Returns the key of the chat to continue."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "Close"),
        Binding("p", "pin", "Pin"),
        Binding("r", "rename", "Rename"),
        Binding("d", "delete", "Delete"),
    ]

    def __init__(self, history: History, current: int | None) -> None:
        super().__init__()
        self.history = history
        self.current = current
        self._chats: dict[str, ChatInfo] = {}
        self._renaming: ChatInfo | None = None
        self._deleting: int | None = None

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Chats", markup=False, classes="heading")
            yield Field(placeholder="Search all messages")
            yield OptionList()
            yield Static(KEYS, markup=False, classes="keys")

    def on_mount(self) -> None:
        self.fill()
        self.query_one(Field).focus()

    def fill(self, words: str = "") -> None:
        """List all chats, or those that match."""
        options = self.query_one(OptionList)
        before = self.highlighted
        if words.strip():
            rows = [(hit.chat, hit.excerpt) for hit in self.history.search(words, MOST)]
        else:
            rows = [(info, "") for info in self.history.chats(MOST)]
        self._chats = {f"{n}": info for n, (info, _) in enumerate(rows)}
        options.clear_options()
        options.add_options([self._option(f"{n}", *row) for n, row in enumerate(rows)])
        if rows:
            options.highlighted = next((n for n, (info, _) in enumerate(rows) if before and info.key == before.key), 0)
        else:
            options.add_option(Option("no matches" if words else "no chats yet", disabled=True))

    def _option(self, name: str, info: ChatInfo, excerpt: str) -> Option:
        mark = "★ " if info.pinned else "● " if info.key == self.current else "  "
        title = Content.assemble(mark, (clean_line(info.title, 46) or "untitled", "bold"))
        count = f"{info.num_messages} message{'s' * (info.num_messages != 1)}"
        facts = f"    {day(info.updated)} · {count} · {clean_line(info.model, 30)}"
        lines = [title, Content.styled(clean_line(f"    {excerpt}", 70) if excerpt else facts, "dim")]
        return Option(Content("\n").join(lines), id=name)

    @property
    def highlighted(self) -> ChatInfo | None:
        option = self.query_one(OptionList).highlighted_option
        return self._chats.get(option.id or "") if option else None

    @on(Input.Changed)
    def search(self) -> None:
        if self._renaming is None:
            self.fill(self.query_one(Field).text)

    @on(Input.Submitted)
    def submitted(self) -> None:
        """Open the highlighted chat, or save the new title."""
        if self._renaming:
            chat, self._renaming = self._renaming, None
            self._try(lambda: self.history.rename(chat.key, self.query_one(Field).text))
            self.query_one(Field).put("")
            self.fill()
            self.query_one(OptionList).focus()
        else:
            self.open()

    @on(OptionList.OptionSelected)
    def open(self) -> None:
        if self.highlighted:
            self.dismiss(self.highlighted.key)

    def on_key(self, event: events.Key) -> None:
        """Down moves from the search to the list."""
        if event.key == "down" and self.query_one(Field).has_focus:
            event.stop()
            self.query_one(OptionList).focus()

    def action_pin(self) -> None:
        if info := self.highlighted:
            self._try(lambda: self.history.pin(info.key, pinned=not info.pinned))
            self.fill(self.query_one(Field).text)

    def action_rename(self) -> None:
        if info := self.highlighted:
            self._renaming = info
            field = self.query_one(Field)
            field.put(info.title)
            field.focus()
            self.say("Enter save the title · Esc cancel")

    def action_delete(self) -> None:
        """Delete if pressed twice."""
        if not (info := self.highlighted):
            return
        if info.key == self.current:
            self.say("this chat is open: /delete deletes it")
        elif self._deleting != info.key:
            self._deleting = info.key
            self.say("d again deletes this chat and its copies of pictures · Esc cancel")
        else:
            self._try(lambda: self.history.delete(info.key))
            self.fill(self.query_one(Field).text)
            self.say(KEYS)

    def action_back(self) -> None:
        """Cancel renaming or deleting, or close."""
        if self._renaming or self._deleting:
            self._renaming = self._deleting = None
            self.query_one(Field).put("")
            self.say(KEYS)
        else:
            self.dismiss(None)

    def say(self, text: str) -> None:
        self.query_one(".keys", Static).update(text)

    def _try(self, change: Callable[[], None]) -> None:
        try:
            change()
        except LlavaError as error:
            self.say(f"{clean_line(error.problem)}: {clean_line(error.advice)}")
