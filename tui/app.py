"""The terminal chat on Textual: opens the chat screen, owns what belongs to the whole application."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import ClassVar

from rich.traceback import Traceback
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input, TextArea

from mlx_llava.engine.messages import Load
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.clipboard import copy
from mlx_llava.tui.images.eyes import with_fit
from mlx_llava.tui.images.kitty import Kitty, TerminalReply, multiplexed, query_terminal, reply_timeout
from mlx_llava.tui.models.catalog import StartingModel, sample
from mlx_llava.tui.screens.chat import ChatScreen
from mlx_llava.tui.session.session import Opening, Session

LOST = 129  # the exit code where the terminal is gone: 128 and SIGHUP
PAINTED = 0.03  # seconds after which the first frame has left; importing MLX would hold it up
DARK = Theme(
    name="llava-dark",
    primary="#7aa2f7",
    secondary="#9d7cd8",
    accent="#ff9e64",
    warning="#e0af68",
    error="#f7768e",
    success="#9ece6a",
    foreground="#c8d0e8",
    background="#15161e",
    surface="#1a1b26",
    panel="#20222f",
    dark=True,
)
LIGHT = Theme(
    name="llava-light",
    primary="#2e5cc5",
    secondary="#7847bd",
    accent="#b4500f",
    warning="#8c6200",
    error="#b3261e",
    success="#3f6d1b",
    foreground="#20242f",
    background="#fbfbf8",
    surface="#f2f2ee",
    panel="#e7e7e1",
    dark=False,
)


class ChatApp(App[int]):
    """One window."""

    CSS_PATH = "style.tcss"
    TITLE = "mlx-llava"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "Quit", priority=True),
        Binding("ctrl+c", "interrupt", "Stop or quit", show=False, priority=True),
        Binding("ctrl+o", "open('files')", "Attach a picture"),
        Binding("f1", "open('help')", "Help"),
        Binding("f2", "open('history')", "Chats"),
        Binding("f3", "open('eyes')", "Through the model's eyes"),
        Binding("f4", "open('settings')", "Settings"),
        Binding("f5", "open('models')", "Models"),
    ]

    def __init__(self, session: Session, opening: Opening, terminal: TerminalReply | None = None) -> None:
        """Show a session, and begin as `opening` says; `terminal` is what the terminal told of itself."""
        super().__init__()
        self.terminal = terminal or TerminalReply()
        self._kitty: Kitty | None = None
        self.session = session
        self.chat = ChatScreen(session)
        self.opening = opening
        self.register_theme(DARK)
        self.register_theme(LIGHT)

    async def on_mount(self) -> None:
        """Show first, then load."""
        await self.push_screen(self.chat)
        if self.terminal.placeholders and self.console.color_system == "truecolor" and not os.environ.get("NO_COLOR"):
            self.use_kitty(Kitty(self._write))
        if self.session.settings.theme in self.available_themes:
            self.theme = self.session.settings.theme
        if not self.is_headless:
            self.set_interval(1, self._leave_lost_terminal)
        loop = asyncio.get_running_loop()
        self.session.engine.notify = waker(loop, self.chat.wake)
        self.chat.call_after_refresh(self.set_timer, PAINTED, self._begin)

    def use_kitty(self, kitty: Kitty) -> None:
        """Have the terminal draw pictures."""
        self._kitty = kitty

    @property
    def kitty(self) -> Kitty | None:
        """The terminal as a drawer of fine pictures, where it is one and that is wanted."""
        return self._kitty if self.session.settings.images == "auto" else None

    def _write(self, text: str) -> None:
        if self._driver:
            self._driver.write(text)

    def on_unmount(self) -> None:
        """Take all pictures back from the terminal."""
        if self._kitty:
            self._kitty.close()

    def _begin(self) -> None:
        self.session.start()
        opening = self.opening
        load = opening.load or Load()  # the small model is there while one is chosen
        self.session.load(load.model, load.adapter, load.revision)
        self.chat.begin(opening)
        if self.terminal.rest:
            self.chat.composer.prompt.insert(clean_line(self.terminal.rest))
        if opening.load is None:
            self.open("models")

    def attach(self, image: Path | None, otherwise: str = "") -> None:
        """Put a picture that was chosen beside the next question; where none was, type something else."""
        if image is not None:
            self.chat.composer.attach([image])
        elif otherwise:
            self.chat.composer.prompt.insert(otherwise)

    def go_on(self, key: int | None) -> None:
        """Go on in a chat that was chosen."""
        self.session.record.see_title()  # it may have been given another
        self.chat.refresh_state()
        if key is not None:
            self.chat.action_command(f"/open {key}")

    def begin_with(self, chosen: StartingModel | None) -> None:
        """Take the model that was chosen on the first screen, and remember it."""
        if chosen is None:
            return
        if chosen.model:
            self.session.load(chosen.model)
            self.session.to_remember = self.session.loading
            return
        self.session.set("model", "embedded")
        if not (self.session.images() or self.opening.images):
            image, question = sample()
            self.chat.composer.attach([image])
            self.chat.composer.fill(question)

    def type_text(self, text: str) -> None:
        """Insert text into the prompt."""
        self.chat.composer.prompt.insert(text)

    def run_command(self, line: str) -> None:
        """Run a slash command in the chat."""
        self.chat.action_command(line)

    def open(self, name: str) -> None:
        """Open a screen by its name; its code is loaded now."""
        session = self.session
        match name:
            case "models":
                from mlx_llava.tui.screens.welcome import Welcome

                self.push_screen(Welcome(), self.begin_with)
            case "history":
                from mlx_llava.tui.screens.history import HistoryScreen

                self.push_screen(HistoryScreen(session.record.history, session.record.chat), self.go_on)
            case "settings":
                from mlx_llava.tui.screens.settings import SettingsScreen

                self.push_screen(SettingsScreen(session), lambda _: self.chat.composer.count_soon())
            case "files" | "@":
                from mlx_llava.tui.screens.files import FilesScreen

                self.push_screen(FilesScreen(Path.cwd()), partial(self.attach, otherwise=name.removeprefix("files")))
            case "help":
                from mlx_llava.tui.screens.help import HelpScreen

                self.push_screen(HelpScreen())
            case _:
                self._open_about(name)

    def _open_about(self, name: str) -> None:
        """Open a screen about what is in the chat."""
        session = self.session
        what, _, argument = name.partition(" ")
        match what:
            case "eyes":
                self._open_eyes()
            case "compare" if session.comparison:
                from mlx_llava.tui.screens.compare import CompareScreen

                self.push_screen(CompareScreen(session.comparison), lambda _: session.stop())
            case "cover":
                self._open_cover(int(argument))
            case "look":
                from mlx_llava.tui.screens.attention import AttentionScreen

                self.push_screen(AttentionScreen(session, int(argument or 1) - 1))
            case "tokens":
                from mlx_llava.tui.screens.tokens import TokensScreen

                answer = session.noted
                self.push_screen(TokensScreen(answer), partial(self.chat.go_on_instead, answer))

    def _open_cover(self, number: int) -> None:
        from mlx_llava.tui.screens.cover import CoverScreen

        shown, model = self.session.image(number), self.session.model
        if model is not None:
            facts = with_fit(model, self.session.settings.fit)
            self.push_screen(CoverScreen(shown, facts), partial(self.chat.cover_and_ask, shown, facts))

    def _open_eyes(self) -> None:
        from mlx_llava.tui.screens.eyes import EyesScreen

        images, model = self.session.images(), self.session.model
        if model is None or not images:
            self.notify("There is no picture yet." if model else "The model is not there yet.")
        else:
            self.push_screen(EyesScreen(self.session, model, images))

    def action_open(self, name: str) -> None:
        """Open a screen by its name, for a key."""
        self.open(name)

    def _fatal_error(self) -> None:
        """Leave after a mistake of ours; without the values of variables, which may be private."""
        self._exit_renderables.append(Traceback(show_locals=False))
        self._close_messages_no_wait()

    def _leave_lost_terminal(self) -> None:
        """Leave where the terminal is gone: Textual would read its end for ever."""
        if not os.isatty(0):
            self.exit(LOST)

    def action_interrupt(self) -> None:
        """Ctrl+C: copy what is selected, else stop, or leave."""
        focused = self.focused
        if isinstance(focused, TextArea | Input) and focused.selected_text:
            self.copy_out(focused.selected_text)
        elif selected := self.screen.get_selected_text():
            self.screen.clear_selection()
            self.copy_out(selected)
            self.notify("Copied.")
        else:
            self.chat.interrupt()

    def copy_out(self, text: str) -> None:
        """Put text on the clipboard, by the system's program where there is one, else through the terminal."""
        if not copy(text):
            self.copy_to_clipboard(text)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """What the palette offers: our commands first."""
        from mlx_llava.tui.session.commands import TABLE

        for command in TABLE if screen is self.chat else ():
            yield SystemCommand(f"/{command.name}", command.what, palette(self.chat, command.name, command.usage))
        yield SystemCommand("Theme", "Change the colours", self.action_change_theme)

    def watch_theme(self, theme: str) -> None:
        """Remember the theme."""
        if theme != self.session.settings.theme:
            self.session.set("theme", theme)


def palette(chat: ChatScreen, name: str, usage: str) -> Callable[[], None]:
    """What the palette does for a command: run it, or let its words be typed."""
    if "N" in usage.split() or any(word in usage for word in ("PATH", "WORDS", "MODEL")):
        return lambda: chat.composer.fill(f"/{name} ")
    return lambda: run_command(chat, name)


def run_command(chat: ChatScreen, name: str) -> None:
    """Carry out a command without words."""
    chat.action_command(f"/{name}")


def waker(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Callable[[], None]:
    """A function that another thread may call to wake the screen."""

    def notify() -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop is closed: nobody looks any more
            return

    return notify


def told() -> TerminalReply:
    """What the terminal tells of itself; nothing where there is none."""
    if multiplexed(os.environ):
        return TerminalReply()
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except OSError:
        return TerminalReply()
    try:
        return query_terminal(terminal, reply_timeout(os.environ))
    finally:
        os.close(terminal)


def run(session: Session, opening: Opening) -> int:
    """Show the application until it is left; the exit code."""
    app = ChatApp(session, opening, told())
    try:
        code = app.run()
    finally:
        ended = session.close()
    if not ended:
        print("the model is still busy; leaving it", file=sys.stderr)
    return code or app.return_code or 0
