"""The chat on Textual: the application around the chat screen."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import ClassVar

from rich.traceback import Traceback
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.screen import Screen
from textual.theme import Theme
from textual.widgets import Input, TextArea

from mlx_llava.engine.messages import Load
from mlx_llava.program.signals import interruptible
from mlx_llava.tui.images.clipboard import copy
from mlx_llava.tui.images.kitty import Kitty, TerminalReply, multiplexed, query_terminal, reply_timeout
from mlx_llava.tui.screens.chat import ChatScreen
from mlx_llava.tui.session import commands, dialogs
from mlx_llava.tui.session.commands.command import Command
from mlx_llava.tui.session.session import Opening, Session

HUNG_UP = 129  # exit code when the terminal is gone: 128 and SIGHUP
PAINTED = 0.03  # seconds until the first frame is out; importing MLX would delay it
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
        Binding("ctrl+o", "choose_file", "Attach a picture"),
        Binding("f1", "open('help')", "Help"),
        Binding("f2", "open('history')", "Chats"),
        Binding("f3", "open('eyes')", "What the model sees"),
        Binding("f4", "open('settings')", "Settings"),
        Binding("f5", "open('models')", "Models"),
    ]

    def __init__(self, session: Session, opening: Opening, terminal: TerminalReply | None = None) -> None:
        """Show a session, starting with `opening`; `terminal` holds the terminal's answers to queries."""
        super().__init__()
        self.terminal = terminal or TerminalReply()
        self._kitty: Kitty | None = None
        self.session = session
        self.chat = ChatScreen(session)
        self.opening = opening
        self.register_theme(DARK)
        self.register_theme(LIGHT)

    async def on_mount(self) -> None:
        """Show the first frame, then load the model."""
        await self.push_screen(self.chat)
        if self.terminal.placeholders and self.console.color_system == "truecolor" and not os.environ.get("NO_COLOR"):
            self.use_kitty(Kitty(self._write))
        if self.session.settings.theme in self.available_themes:
            self.theme = self.session.settings.theme
        if not self.is_headless:
            self.set_interval(1, self._leave_lost_terminal)
        loop = asyncio.get_running_loop()
        self.session.engine.notify(waker(loop, self.chat.pump.woken.set))
        self.chat.call_after_refresh(self.set_timer, PAINTED, self._begin)

    def use_kitty(self, kitty: Kitty) -> None:
        """Let the terminal draw images."""
        self._kitty = kitty

    @property
    def kitty(self) -> Kitty | None:
        """The terminal, if it draws images and the settings allow it."""
        return self._kitty if self.session.settings.images == "auto" else None

    def _write(self, text: str) -> None:
        if self._driver:
            self._driver.write(text)

    def on_unmount(self) -> None:
        """Delete all images from the terminal."""
        if self._kitty:
            self._kitty.close()

    def _begin(self) -> None:
        self.session.engine.start()
        self.session.load(self.opening.load or Load())  # the bundled model works while the user chooses
        self.chat.begin(self.opening)
        if self.terminal.rest:
            self.type_text(self.terminal.rest)
        if self.opening.load is None:
            self.action_open("models")

    def action_open(self, page: dialogs.Page) -> None:
        self.chat.open(page)

    def action_choose_file(self) -> None:
        self.chat.open(dialogs.Files())

    def type_text(self, text: str) -> None:
        self.chat.composer.prompt.insert(text)

    def run_command(self, line: str) -> None:
        self.chat.action_command(line)

    def _fatal_error(self) -> None:
        """Exit on an unhandled exception. The traceback leaves out local variables, which may be private."""
        self._exit_renderables.append(Traceback(show_locals=False))
        self._close_messages_no_wait()

    def _leave_lost_terminal(self) -> None:
        """Exit if the terminal is gone; Textual would read its end of file forever."""
        if not os.isatty(0):
            self.exit(HUNG_UP)

    def action_interrupt(self) -> None:
        """Ctrl+C: copy the selection, or stop, or leave."""
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
        """Copy text with the system's clipboard program, or else through the terminal."""
        if not copy(text):
            self.copy_to_clipboard(text)

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        for command in commands.TABLE if screen is self.chat else ():
            yield SystemCommand(f"/{command.name}", command.what, partial(self._run_or_fill, command))
        yield SystemCommand("Theme", "Change the colors", self.action_change_theme)

    def _run_or_fill(self, command: Command) -> None:
        """Run a command from the palette, or put it into the prompt if it needs an argument."""
        if "N" in command.usage.split() or any(word in command.usage for word in ("PATH", "WORDS", "MODEL")):
            self.chat.composer.fill(f"/{command.name} ")
        else:
            self.run_command(f"/{command.name}")

    def watch_theme(self, theme: str) -> None:
        if theme != self.session.settings.theme:
            self.session.set("theme", theme)


def waker(loop: asyncio.AbstractEventLoop, wake: Callable[[], None]) -> Callable[[], None]:
    """Return a function that wakes the screen from another thread."""

    def notify() -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the screen is gone
            loop.call_soon_threadsafe(wake)

    return notify


def terminal_reply() -> TerminalReply:
    """Ask the terminal what it can do; empty if there is none."""
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


@interruptible()
def run(session: Session, opening: Opening) -> int:
    """Run the application; returns the exit code."""
    app = ChatApp(session, opening, terminal_reply())
    try:
        code = app.run()
    finally:
        ended = session.close()
    if not ended:
        print("the model is still busy; exiting without waiting for it", file=sys.stderr)
    return code or app.return_code or 0
