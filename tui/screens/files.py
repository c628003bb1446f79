"""Choose an image file, with a preview."""

import asyncio
import os
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from mlx_llava.errors import LlavaError
from mlx_llava.images.files import is_image_name
from mlx_llava.program.paths import expand_home
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images.attachments import from_file
from mlx_llava.tui.widgets.field import Field
from mlx_llava.tui.widgets.image_view import ImageView

MOST = 500  # entries in the list
BELOW = 2  # rows below the preview: its border and its size


class FilesScreen(ModalScreen[Path | None]):
    """Returns the path of an image."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("up", "move(-1)", show=False, priority=True),
        Binding("down", "move(1)", show=False, priority=True),
    ]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._entries: list[Path] = []

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog files"):
            yield Static("", markup=False, classes="heading")
            yield Field(placeholder="Part of the name")
            with Horizontal(classes="views"):
                yield OptionList(classes="close")
                yield Vertical(id="preview")
            yield Static("↑ ↓ move · Enter choose · Esc close", markup=False, classes="keys")

    def on_mount(self) -> None:
        self.query_one(OptionList).can_focus = False
        self.fill()
        self.query_one(Field).focus()

    def fill(self, part: str = "") -> None:
        """List the folder's entries whose name contains `part`."""
        self.query_one(".heading", Static).update(clean_line(as_written(self.folder), 60))
        self._entries = entries(self.folder, part)
        options = self.query_one(OptionList)
        options.clear_options()
        options.add_options([Option(Content(clean_line(self._label(path), 60))) for path in self._entries])
        above = int(self._entries[:1] == [self.folder.parent])  # whether the parent folder comes first
        if len(self._entries) == above:
            options.add_option(Option("no pictures here", disabled=True))
        if self._entries:
            options.highlighted = min(above, len(self._entries) - 1)

    def _label(self, path: Path) -> str:
        if path == self.folder.parent:
            return "../"
        return f"{path.name}/" if is_folder(path) else path.name

    @property
    def highlighted(self) -> Path | None:
        index = self.query_one(OptionList).highlighted
        return self._entries[index] if index is not None and index < len(self._entries) else None

    @on(Input.Changed)
    def narrow(self) -> None:
        self.fill(self.query_one(Field).text)

    @on(Input.Submitted)
    @on(OptionList.OptionSelected)
    def choose(self) -> None:
        """Return the image, or enter the folder."""
        path = self.highlighted
        if path is None:
            return
        if not is_folder(path):
            self.dismiss(path)
            return
        self.folder = path
        self.query_one(Field).put("")
        self.fill()

    @on(OptionList.OptionHighlighted)
    @work(exclusive=True)
    async def preview(self) -> None:
        """Read an image on a thread, and show it."""
        place, path = self.query_one("#preview", Vertical), self.highlighted
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
        options = self.query_one(OptionList)
        options.action_cursor_up() if step < 0 else options.action_cursor_down()


def entries(folder: Path, part: str) -> list[Path]:
    """Return the parent, folders, and images whose name contains `part`; nothing from an unreadable folder."""
    try:
        inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except OSError:
        inside = []
    folders = sorted(path for path in inside if is_folder(path))
    images = sorted(path for path in inside if is_image_name(path.name) and not is_folder(path))
    matches = [path for path in (*folders, *images) if part.lower() in path.name.lower()]
    return [*([folder.parent] if not part and folder != folder.parent else []), *matches][:MOST]


def is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises without permission


def as_written(folder: Path) -> str:
    """Return the folder with ~ for the home."""
    home = expand_home("~")
    return str(Path("~", folder.relative_to(home)) if folder.is_relative_to(home) else folder)
