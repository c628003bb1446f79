"""Through the model's eyes: a picture as it is, as a square, as patches."""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from mlx_llava.engine.messages import ModelFacts
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images import eyes
from mlx_llava.tui.session.conversation import Numbered
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.image_view import ImageView
from mlx_llava.tui.window import window


class EyesScreen(ModalScreen[None]):
    """Shows the pictures of a chat one after the other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f3,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Picture before"),
        Binding("right", "step(1)", "Next picture"),
        Binding("f", "fit", "Crop or pad"),
        Binding("c", "cover", "Cover a part and ask again"),
    ]

    def __init__(self, session: Session, model: ModelFacts, images: list[Numbered]) -> None:
        super().__init__()
        self.session = session
        self.model = eyes.with_fit(model, session.settings.fit)
        self.images = images
        self.at = len(images) - 1

    def compose(self) -> Iterable[Widget]:
        """Three views side by side, what they show above and below each."""
        first = self.images[self.at].image.preview
        with Vertical(classes="dialog eyes"):
            yield Static("", markup=False, classes="heading")
            with Horizontal(classes="views"):
                for name in ("as it is", "as a square", "as patches"):
                    with Vertical():
                        yield Static(name, markup=False, classes="name")
                        yield ImageView(first)
                        yield Static("", markup=False, classes="facts")
            keys = "← → pictures · f crop or pad · c cover a part · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        """Show the last picture."""
        self.draw()

    @work(exclusive=True)
    async def draw(self) -> None:
        """Make the square on a thread, then show all three."""
        shown = self.images[self.at]
        image, model = shown.image, self.model
        seen = await asyncio.to_thread(eyes.square, image.preview, model, None)
        name = f"Picture {shown.number} of {len(self.images)}: {clean_line(image.name, 50)}"
        self.query_one(".heading", Static).update(name if shown.on else f"{name} (off)")
        views = list(self.query(ImageView))
        views[0].show(image.preview)
        views[1].show(seen)
        views[2].show(seen, model.patches)
        facts = (
            f"{image.size[0]}×{image.size[1]} pixels",
            f"{model.fit}: {model.side}×{model.side}\n{eyes.loss(image.size, model.fit)}",
            eyes.tokens(model, self._start(shown)),
        )
        for fact, text in zip(self.query(".facts"), facts, strict=True):
            if isinstance(fact, Static):
                fact.update(text)

    def _start(self, shown: Numbered) -> int | None:
        """Where the picture's tokens begin, as far as the last count tells."""
        on = [other for other in self.images if other.on]
        counted = self.session.counted
        if not shown.on or counted is None or len(counted.starts) != len(on):
            return None
        return counted.starts[on.index(shown)]

    def action_step(self, step: int) -> None:
        """Show another picture."""
        self.at = (self.at + step) % len(self.images)
        self.draw()

    def action_cover(self) -> None:
        """Go on to cover a part of this picture."""
        self.dismiss(None)
        window(self).run_command(f"/cover {self.images[self.at].number}")

    def action_fit(self) -> None:
        """Show what the other way to make a square would do."""
        self.model = eyes.with_fit(self.model, "pad" if self.model.fit == "crop" else "crop")
        self.draw()
