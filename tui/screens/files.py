"""Choose a picture file, with a look at it."""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mlx_llava.errors import LlavaError
from mlx_llava.program.paths import expanded
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.attachments import from_file
from mlx_llava.tui.images.dropped import IMAGES
from mlx_llava.tui.widgets.image_view import ImageView

MOST = 500  # entries in the list
BELOW = 2  # rows that a picture leaves in its column: its border and its size


class FilesScreen(ModalScreen[Path | None]):
    """Returns the picture that was chosen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._entries: list[Path] = []

    def compose(self) -> Iterable[Widget]:
        """A field for a part of the name, folders and pictures, a look at one."""
        with Vertical(classes="dialog files"):
            yield Static("", markup=False, classes="heading")
            yield Input(placeholder="Part of the name")
            with Horizontal(classes="views"):
                yield OptionList(classes="close")
                yield Vertical(id="look")
            yield Static("↑ ↓ move · Enter choose · Esc close", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Show the folder."""
        self.query_one(OptionList).can_focus = False
        self.fill()
        self.query_one(Input).focus()

    def fill(self, part: str = "") -> None:
        """Show what is in the folder and has the part in its name."""
        self.query_one(".heading", Static).update(clean_line(as_written(self.folder), 60))
        self._entries = entries(self.folder, part)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(Content(clean_line(self._shown(path), 60))) for path in self._entries])
        above = int(self._entries[:1] == [self.folder.parent])  # entries before those of the folder
        if len(self._entries) == above:
            options.add_option(Option("no pictures here", disabled=True))
        if self._entries:
            options.highlighted = min(above, len(self._entries) - 1)

    def _shown(self, path: Path) -> str:
        if path == self.folder.parent:
            return "../"
        return f"{path.name}/" if is_folder(path) else path.name

    @property
    def chosen(self) -> Path | None:
        """What is highlighted."""
        at = self.query_one(OptionList).highlighted
        return self._entries[at] if at is not None and at < len(self._entries) else None

    @on(Input.Changed)
    def narrow(self, event: Input.Changed) -> None:
        """Show what fits."""
        self.fill(event.value)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def choose(self) -> None:
        """Take the picture, or enter the folder."""
        if self.chosen is None:
            return
        if not is_folder(self.chosen):
            self.dismiss(self.chosen)
            return
        self.folder = self.chosen
        self.query_one(Input).value = ""
        self.fill()

    @on(OptionList.OptionHighlighted)
    def look_at_it(self) -> None:
        """Show the picture that is highlighted."""
        self.look()

    @work(exclusive=True)
    async def look(self) -> None:
        """Read a picture on a thread and show it."""
        place, path = self.query_one("#look", Vertical), self.chosen
        await place.remove_children()
        if path is None or is_folder(path):
            return
        try:
            image = await asyncio.to_thread(from_file, path)
        except LlavaError as error:
            await place.mount(Static(clean_line(error.problem, 200), markup=False))
        else:
            width, height = image.size
            view = ImageView(image.preview, max_rows=place.size.height - BELOW)
            await place.mount(view, Static(f"{width}×{height}", markup=False))

    def action_move(self, step: int) -> None:
        """Highlight another entry."""
        options = self.query_one(OptionList)
        options.action_cursor_up() if step < 0 else options.action_cursor_down()


def entries(folder: Path, part: str) -> list[Path]:
    """The folder above, folders, and pictures whose name has a part; none where the folder cannot be read."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        inside = []
    folders = sorted(path for path in inside if is_folder(path))
    images = sorted(path for path in inside if path.suffix.lower() in IMAGES and not is_folder(path))
    found = [path for path in (*folders, *images) if part.lower() in path.name.lower()]
    return [*([folder.parent] if not part and folder != folder.parent else []), *found][:MOST]


def is_folder(path: Path) -> bool:
    """Whether it can be entered."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises where one may not look


def as_written(folder: Path) -> str:
    """The folder as a person writes it: ~ stands for the home."""
    home = expanded("~")
    return str(Path("~", folder.relative_to(home)) if folder.is_relative_to(home) else folder)
