"""Where it looked: the last answer token by token, and the patches that each of them attended to."""

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from mlx_llava.engine.messages import AttentionMapped, Failed
from mlx_llava.errors import LlavaError
from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.images import eyes, heat
from mlx_llava.tui.session import attention
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.widgets.image_view import ImageView

WAIT = "a moment: the model reads the answer once more"


class AttentionScreen(ModalScreen[None]):
    """Shows where the last answer looked, once the engine has told."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Token before"),
        Binding("right", "step(1)", "Next token"),
        Binding("home", "jump(0)", "First token"),
        Binding("end", "jump(-1)", "Last token"),
        Binding("r", "relative", "Raw or relative"),
        Binding("tab", "picture(1)", "Next picture", priority=True),
        Binding("shift+tab", "picture(-1)", "Picture before", priority=True),
    ]

    def __init__(self, session: Session, token: int = 0) -> None:
        super().__init__()
        self.session = session
        self.images = attention.seen(session)[1]
        self.image = len(self.images) - 1
        self.looked: AttentionMapped | None = None
        self.token = token
        self.relative = False

    def compose(self) -> Iterable[Widget]:
        """The picture, and the answer below it."""
        with Vertical(classes="dialog look"):
            yield Static("", markup=False, classes="heading")
            yield ImageView(self.images[self.image].image.preview)
            yield Static("", markup=False, classes="answer")
            yield Static(WAIT, markup=False, classes="facts")
            keys = "← → Home End tokens · r raw or relative · Tab pictures · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        """Ask the engine."""
        self.draw()
        try:
            attention.look(self.session, self.told)
        except LlavaError as error:
            self.say(f"{error.problem}\n{error.advice}")

    def on_unmount(self) -> None:
        """Let the engine do something else."""
        attention.look_away(self.session)

    def told(self, event: attention.LookEvent) -> None:
        """The engine has an answer, or none."""
        if isinstance(event, AttentionMapped):
            self.looked = event
            self.action_step(0)
        else:
            self.say(f"{event.problem}\n{event.advice}" if isinstance(event, Failed) else event.problem)

    def say(self, text: str) -> None:
        """Say something below the answer."""
        self.query_one(".facts", Static).update(clean(text))

    @work(exclusive=True)
    async def draw(self) -> None:
        """Show the picture as the model saw it, lit where the token looked."""
        shown, model = self.images[self.image], self.session.model
        name = f"picture {self.image + 1} of {len(self.images)}: {clean_line(shown.image.name, 50)}"
        self.query_one(".heading", Static).update(f"Where it looked · {name}")
        weights = self._weights()
        if model is not None:
            square = await asyncio.to_thread(eyes.square, shown.image.preview, model, self.session.settings.fit)
            self.query_one(ImageView).show(square, weights=weights)

    def _weights(self) -> heat.Weights | None:
        """How bright each patch is; tells what that means."""
        looked = self.looked
        if looked is None:
            return None
        weights, neutral = looked.shares[self.token, self.image], looked.neutral[self.image]
        weights = heat.relative(weights, neutral) if self.relative else weights
        facts = heat.relative_facts(weights) if self.relative else heat.raw_facts(weights)
        form = "relative" if self.relative else "raw"
        place = f"token {self.token + 1} of {len(looked.tokens)} · {form} · {facts}"
        self.say(place if looked.verbatim else f"{place}\n{heat.NOW}")
        self.query_one(".answer", Static).update(heat.answer_line(looked.tokens, self.token, "reverse bold"))
        return heat.stretch(weights)

    def action_step(self, step: int) -> None:
        """Go to a token beside this one."""
        if self.looked:
            self.token = min(max(self.token + step, 0), len(self.looked.tokens) - 1)
            self.draw()

    def action_jump(self, token: int) -> None:
        """Go to the first token or the last."""
        if self.looked:
            self.token = token % len(self.looked.tokens)
            self.draw()

    def action_relative(self) -> None:
        """Show attention as it is, or over that of a neutral prompt."""
        self.relative = not self.relative
        self.draw()

    def action_picture(self, step: int) -> None:
        """Show another picture."""
        self.image = (self.image + step) % len(self.images)
        self.draw()
