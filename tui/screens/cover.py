"""Mark part of an image, to cover it and ask again."""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.events import MouseDown, MouseEvent, MouseMove, MouseUp
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.engine.messages import ModelFacts
from mlx_llava.program.text import clean_line
from mlx_llava.tui.images import eyes
from mlx_llava.tui.images.cover import Patches, fill, mean_color
from mlx_llava.tui.session.conversation import NumberedImage
from mlx_llava.tui.widgets.image_view import ImageView

if TYPE_CHECKING:
    from PIL import Image

# key, letter, rows down, columns right
STEPS = (("up", "K", -1, 0), ("down", "J", 1, 0), ("left", "H", 0, -1), ("right", "L", 0, 1))


class CoverScreen(ModalScreen[Patches | None]):
    """Returns the patches to cover."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        *(Binding(key, f"move({down}, {right})", show=False) for key, _, down, right in STEPS),
        *(Binding(f"shift+{key},{letter}", f"grow({down}, {right})", show=False) for key, letter, down, right in STEPS),
        Binding("enter", "cover", "Cover and ask again"),
    ]

    def __init__(self, image: NumberedImage, model: ModelFacts) -> None:
        super().__init__()
        self.image = image
        self.model = model
        middle, reach = model.patches // 2, max(model.patches // 6, 1)
        self.patches = Patches(model.patches, *[middle - reach] * 2, *[middle + reach] * 2)
        self._square: Image.Image | None = None
        self._corner: tuple[int, int] | None = None

    def compose(self) -> ComposeResult:
        name = clean_line(self.image.image.name, 50)
        with Vertical(classes="dialog eyes"):
            yield Static(f"Picture {self.image.number}: {name}", markup=False, classes="heading")
            yield ImageView(self.image.image.preview)
            keys = "arrows, Shift+arrows or mouse · Enter cover, ask again · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        self.prepare()

    @work
    async def prepare(self) -> None:
        """Compute what the model sees, on a thread, and show it."""
        self._square = await asyncio.to_thread(eyes.square, self.image.image.preview, self.model, None)
        self.draw()

    def draw(self) -> None:
        if self._square is not None:
            pil_image = self._square.copy()
            fill(pil_image, self.patches.box(pil_image.size, "pad"), mean_color(self.model.mean))
            self.query_one(ImageView).show(pil_image, self.model.patches)

    def action_move(self, down: int, right: int) -> None:
        self.patches = self.patches.moved(down, right)
        self.draw()

    def action_grow(self, down: int, right: int) -> None:
        self.patches = self.patches.grown(down, right)
        self.draw()

    def on_mouse_down(self, event: MouseDown) -> None:
        self._corner = self._patch(event)
        self._drag(event)

    def on_mouse_move(self, event: MouseMove) -> None:
        self._drag(event)

    def on_mouse_up(self, _: MouseUp) -> None:
        self._corner = None

    def _patch(self, event: MouseEvent) -> tuple[int, int] | None:
        view = self.query_one(ImageView)
        x, y = event.screen_x - view.content_region.x, event.screen_y - view.content_region.y
        return view.patch_at(int(x), int(y), self.model.patches)

    def _drag(self, event: MouseEvent) -> None:
        if self._corner and (patch := self._patch(event)):
            self.patches = Patches.between(self.model.patches, self._corner, patch)
            self.draw()

    def action_cover(self) -> None:
        self.dismiss(self.patches)
