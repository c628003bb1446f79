"""The first screen: choose a model."""

import shutil
from collections.abc import Iterable
from typing import ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option
from textual.worker import Worker

from mlx_llava.catalog import offers
from mlx_llava.catalog.offers import Offer
from mlx_llava.catalog.pulled import is_converted, models_folder, pulled_models
from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.engine.messages import Load
from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean_line, size
from mlx_llava.tui.models.download import fetch
from mlx_llava.tui.widgets.field import Field
from mlx_llava.tui.window import window


class Welcome(ModalScreen[Load | None]):
    """Offers the bundled model, checkpoints that fit this machine, and a path; returns the model to load."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "back", "Back")]

    def __init__(self) -> None:
        super().__init__()
        self.available = offers.memory()
        self.offers = [offer for offer in offers.fitting(self.available) if not is_converted(offer.folder)]
        self._fetching: Worker[None] | None = None
        self._sure = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog"):
            yield Static("Chat about pictures, on this machine", markup=False, classes="heading")
            yield OptionList(*self._options())
            yield Field(placeholder="Folder of a converted model, or owner/name", id="path")
            yield Static("", markup=False, id="progress")
            yield Horizontal(Static("↑ ↓ Enter choose · Esc back", markup=False), classes="keys")

    def on_mount(self) -> None:
        self.query_one(Field).display = False
        self.query_one(OptionList).focus()

    def _options(self) -> Iterable[Option]:
        yield option(EMBEDDED, "The bundled model", "ready now, no download: answers questions about drawn shapes")
        for folder in pulled_models():
            yield option(f"path:{folder}", clean_line(folder.name, 40), "converted on this machine")
        for number, offer in enumerate(self.offers):
            facts = f"downloads {size(offer.download)} once, takes {size(offer.size)} of disk\n"
            facts += f"needs {size(offer.need)} of memory — {offers.verdict(offer, self.available)}"
            advised = ", recommended" if offer == offers.recommended(self.available) else ""
            yield option(f"offer:{number}", f"{offer.name} in 4 bits{advised}", facts)
        yield option("path", "Another model", "a converted folder, or a Hugging Face repository with one")

    def on_key(self, event: Key) -> None:
        """Put typed letters into the prompt."""
        if event.is_printable and event.character and self.query_one(OptionList).has_focus:
            event.stop()
            window(self).type_text(event.character)

    @on(OptionList.OptionSelected)
    def choose(self, event: OptionList.OptionSelected) -> None:
        name = event.option_id or ""
        if self._fetching:
            return
        if name == EMBEDDED:
            self.dismiss(Load())
        elif name.startswith("path:"):
            self.dismiss(Load(name.removeprefix("path:")))
        elif name.startswith("offer:"):
            self._confirm_or_fetch(self.offers[int(name.removeprefix("offer:"))])
        else:
            field = self.query_one(Field)
            field.display = True
            field.focus()

    @on(OptionList.OptionHighlighted)
    def forget(self) -> None:
        """Forget a confirmation when another line is highlighted."""
        if not self._fetching:
            self._sure = False
            self.say("")

    @on(Input.Submitted)
    def use_path(self) -> None:
        if name := self.query_one(Field).text.strip():
            self.dismiss(Load(name))

    def _confirm_or_fetch(self, offer: Offer) -> None:
        folder = models_folder()
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
        if free < offer.download + offer.size:
            self.say(f"{size(free)} of disk free, {size(offer.download + offer.size)} needed")
        elif not self._sure:
            self._sure = True
            source = f"{size(offer.download)} from huggingface.co/{offer.repository}"
            self.say(f"Enter again fetches {source}\nand converts it. Esc cancels.")
        else:
            self._fetching = self.fetch_offer(offer)

    @work(group="fetch", exit_on_error=False)
    async def fetch_offer(self, offer: Offer) -> None:
        """Fetch and convert, showing progress."""
        lines = fetch(offer.repository, offer.folder)
        try:
            async for line in lines:
                self.say(f"{clean_line(line, 76)}\nEsc stops; complete files are kept")
        except LlavaError as error:
            self._fetching, self._sure = None, False
            self.say(f"{clean_line(error.problem)}\n{clean_line(error.advice)}")
        else:
            self.dismiss(Load(str(offer.folder)))
        finally:
            await lines.aclose()

    def say(self, text: str) -> None:
        self.query_one("#progress", Static).update(text)

    def action_back(self) -> None:
        """Stop fetching, leave the path field, or close."""
        field = self.query_one(Field)
        if self._fetching:
            self._fetching.cancel()
            self._fetching, self._sure = None, False
            self.say("stopped")
        elif field.display:
            field.display = False
            self.query_one(OptionList).focus()
        else:
            self.dismiss(None)


def option(name: str, title: str, facts: str) -> Option:
    lines = [Content.styled(title, "bold"), *(Content.styled(f"  {line}", "dim") for line in facts.split("\n"))]
    return Option(Content("\n").join(lines), id=name)
