"""Attention: the last answer token by token, and the image patches that each token attended to."""

import asyncio
from typing import ClassVar

from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.engine.messages import AttentionMapped, Failed
from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.images import eyes, heat
from mlx_llava.tui.session.attention import AttentionEvent
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.image_view import ImageView

WAIT = "one moment: the model reads the answer again"


class AttentionScreen(ModalScreen[None]):
    """Requests the attention of the last answer, and shows it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Previous token"),
        Binding("right", "step(1)", "Next token"),
        Binding("home", "jump(0)", "First token"),
        Binding("end", "jump(-1)", "Last token"),
        Binding("r", "relative", "Raw or relative"),
        Binding("tab", "image(1)", "Next picture", priority=True),
        Binding("shift+tab", "image(-1)", "Previous picture", priority=True),
    ]

    def __init__(self, session: Session, token: int = 0) -> None:
        super().__init__()
        self.session = session
        self.images = session.attention_subject().images
        self.image = len(self.images) - 1
        self.maps: AttentionMapped | None = None
        self.token = token
        self.relative = False

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog attention"):
            yield Static("", markup=False, classes="heading")
            yield ImageView(self.images[self.image].image.preview)
            yield Static("", markup=False, classes="answer")
            yield Static(WAIT, markup=False, classes="facts")
            keys = "← → Home End tokens · r raw or relative · Tab pictures · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        self.draw()
        try:
            self.session.map_attention(self.receive)
        except LlavaError as error:
            self.say(f"{error.problem}\n{error.advice}")

    def on_unmount(self) -> None:
        self.session.engine.cancel_attention()

    def receive(self, event: AttentionEvent) -> None:
        if isinstance(event, AttentionMapped):
            self.maps = event
            self.action_step(0)
        else:
            self.say(f"{event.problem}\n{event.advice}" if isinstance(event, Failed) else event.problem)

    def say(self, text: str) -> None:
        """Show a text below the answer."""
        self.query_one(".facts", Static).update(clean(text))

    @work(exclusive=True)
    async def draw(self) -> None:
        """Show the image as the model sees it, bright where the token attended."""
        numbered, model = self.images[self.image], self.session.model
        name = f"picture {self.image + 1} of {len(self.images)}: {clean_line(numbered.image.name, 50)}"
        self.query_one(".heading", Static).update(f"Attention · {name}")
        weights = self._weights()
        if model is not None:
            square = await asyncio.to_thread(eyes.square, numbered.image.preview, model, self.session.settings.fit)
            self.query_one(ImageView).show(square, weights=weights)

    def _weights(self) -> heat.Weights | None:
        """Return the brightness of each patch, and show what it means."""
        maps = self.maps
        if maps is None:
            return None
        weights, neutral = maps.shares[self.token, self.image], maps.neutral[self.image]
        weights = heat.relative(weights, neutral) if self.relative else weights
        facts = heat.relative_facts(weights) if self.relative else heat.raw_facts(weights)
        form = "relative" if self.relative else "raw"
        place = f"token {self.token + 1} of {len(maps.tokens)} · {form} · {facts}"
        self.say(place if maps.verbatim else f"{place}\n{heat.NOW}")
        self.query_one(".answer", Static).update(heat.answer_line(maps.tokens, self.token, "reverse bold"))
        return heat.stretch(weights)

    def action_step(self, step: int) -> None:
        if self.maps:
            self.token = min(max(self.token + step, 0), len(self.maps.tokens) - 1)
            self.draw()

    def action_jump(self, token: int) -> None:
        if self.maps:
            self.token = token % len(self.maps.tokens)
            self.draw()

    def action_relative(self) -> None:
        """Show raw attention, or the ratio to that of a neutral prompt."""
        self.relative = not self.relative
        self.draw()

    def action_image(self, step: int) -> None:
        self.image = (self.image + step) % len(self.images)
        self.draw()
