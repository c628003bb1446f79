"""A dialog with all settings."""

from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import ABOUT, KINDS, NAMES
from mlx_llava.tui.widgets.field import Field

KEYS = "Enter change · Esc close"


class SettingsScreen(ModalScreen[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Close")]

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Settings", markup=False, classes="heading")
            yield OptionList(*map(self._option, NAMES), classes="close")
            yield Field()
            yield Static(KEYS, markup=False, classes="keys")

    def on_mount(self) -> None:
        self._leave_field()

    def _option(self, name: str) -> Option:
        value = clean_line(self.session.settings.spelled(name), 14)
        row = Content.assemble((f"{name:14}", "bold"), f"{value:15}", (ABOUT[name], "dim"))
        return Option(row, id=name)

    @property
    def highlighted(self) -> str:
        option = self.query_one(OptionList).highlighted_option
        return (option.id if option else None) or NAMES[0]

    @on(OptionList.OptionSelected)
    def change(self) -> None:
        field = self.query_one(Field)
        value = self.session.settings.spelled(self.highlighted)
        field.placeholder = f"{self.highlighted}: {KINDS[self.highlighted].hint}, or default"
        field.put("" if value in ("default", "random") else value)
        field.display = True
        field.focus()
        self.say(f"{self.highlighted} is {KINDS[self.highlighted].hint}")

    @on(Input.Submitted)
    def save(self) -> None:
        try:
            self.session.set(self.highlighted, self.query_one(Field).text.strip() or "default")
        except LlavaError as error:
            self.say(f"{clean_line(error.problem)}")
            return
        options = self.query_one(OptionList)
        options.replace_option_prompt(self.highlighted, self._option(self.highlighted).prompt)
        if self.highlighted == "theme" and self.session.settings.theme in self.app.available_themes:
            self.app.theme = self.session.settings.theme
        self._leave_field()

    def action_back(self) -> None:
        if self.query_one(Field).display:
            self._leave_field()
        else:
            self.dismiss(None)

    def _leave_field(self) -> None:
        self.query_one(Field).display = False
        self.query_one(OptionList).focus()
        self.say(KEYS)

    def say(self, text: str) -> None:
        self.query_one(".keys", Static).update(text)
