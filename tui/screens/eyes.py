"""What the model sees: the original image, the square, and its patches."""

import asyncio
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.engine.messages import ModelFacts
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images import eyes
from mlx_llava.tui.session.conversation import NumberedImage
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.image_view import ImageView
from mlx_llava.tui.window import window


class EyesScreen(ModalScreen[None]):
    """Shows the images of a chat one at a time."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f3,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Previous picture"),
        Binding("right", "step(1)", "Next picture"),
        Binding("f", "fit", "Crop or pad"),
        Binding("c", "cover", "Cover part of it and ask again"),
    ]

    def __init__(self, session: Session, model: ModelFacts, images: list[NumberedImage]) -> None:
        super().__init__()
        self.session = session
        self.model = eyes.with_fit(model, session.settings.fit)
        self.images = images
        self.index = len(images) - 1

    def compose(self) -> ComposeResult:
        first = self.images[self.index].image.preview
        with Vertical(classes="dialog eyes"):
            yield Static("", markup=False, classes="heading")
            with Horizontal(classes="views"):
                for name in ("original", "square", "patches"):
                    with Vertical():
                        yield Static(name, markup=False, classes="name")
                        yield ImageView(first)
                        yield Static("", markup=False, classes="facts")
            keys = "← → pictures · f crop or pad · c cover a part · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        self.draw()

    @work(exclusive=True)
    async def draw(self) -> None:
        """Compute the square on a thread, then show all three views."""
        numbered = self.images[self.index]
        image, model = numbered.image, self.model
        square = await asyncio.to_thread(eyes.square, image.preview, model, None)
        name = f"Picture {numbered.number} of {len(self.images)}: {clean_line(image.name, 50)}"
        self.query_one(".heading", Static).update(name if numbered.on else f"{name} (off)")
        views = list(self.query(ImageView))
        views[0].show(image.preview)
        views[1].show(square)
        views[2].show(square, model.patches)
        facts = (
            f"{image.size[0]}×{image.size[1]} pixels",
            f"{model.fit}: {model.side}×{model.side}\n{eyes.loss(image.size, model.fit)}",
            eyes.tokens(model, self._start(numbered)),
        )
        for fact, text in zip(self.query(".facts").results(Static), facts, strict=True):
            fact.update(text)

    def _start(self, numbered: NumberedImage) -> int | None:
        """Return the position of the image's first token, if the last count has it."""
        on = [other for other in self.images if other.on]
        usage = self.session.engine.usage
        if not numbered.on or usage is None or len(usage.starts) != len(on):
            return None
        return usage.starts[on.index(numbered)]

    def action_step(self, step: int) -> None:
        self.index = (self.index + step) % len(self.images)
        self.draw()

    def action_cover(self) -> None:
        self.dismiss(None)
        window(self).run_command(f"/cover {self.images[self.index].number}")

    def action_fit(self) -> None:
        """Show the effect of the other way to make a square."""
        self.model = eyes.with_fit(self.model, "pad" if self.model.fit == "crop" else "crop")
        self.draw()
