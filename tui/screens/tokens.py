"""The tokens of an answer: their probabilities and alternatives."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.engine.messages import Choice
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node

UNSURE, OPEN = 0.9, 0.5  # probabilities below which a token is marked, and marked strongly
BAR = 20  # cells for a probability of 1


class TokensScreen(ModalScreen[tuple[int, Choice] | None]):
    """Returns the place of a token, and the alternative to use there."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Previous token"),
        Binding("right", "step(1)", "Next token"),
        Binding("home", "go(0)", "First token"),
        Binding("end", "go(-1)", "Last token"),
        Binding("up", "pick(-1)", "More likely one"),
        Binding("down", "pick(1)", "Less likely one"),
        Binding("enter", "instead", "Continue from it"),
    ]

    def __init__(self, answer: Node) -> None:
        super().__init__()
        self.tokens = [piece for piece in answer.tokens if piece.token]
        self.place = 0
        self.rank = 0

    def compose(self) -> ComposeResult:
        with Vertical(classes="dialog tokens"):
            yield Static("", markup=False, classes="heading")
            with VerticalScroll(classes="answer"):
                yield Static("", markup=False, id="answer")
            yield Static("", markup=False, id="others")
            keys = "← → token · ↑ ↓ alternative · Enter continue from it · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        """Start at the least likely token."""
        probabilities = [piece.token.probability for piece in self.tokens if piece.token]
        self.action_go(probabilities.index(min(probabilities)))

    def draw(self) -> None:
        self.query_one(".heading", Static).update(f"Token {self.place + 1} of {len(self.tokens)}")
        parts = [
            (figures.token(piece.token.text), "reverse" if n == self.place else style(piece.token.probability))
            for n, piece in enumerate(self.tokens)
            if piece.token
        ]
        self.query_one("#answer", Static).update(Content.assemble(*parts))
        view = self.query_one(".answer", VerticalScroll)
        row = len(Content.assemble(*parts[: self.place + 1]).wrap(max(view.size.width, 1)))
        self.call_after_refresh(view.scroll_to, y=row - view.size.height // 2, animate=False)
        rows = [self._row(n, choice) for n, choice in enumerate(self.choices)]
        self.query_one("#others", Static).update(Content("\n").join(rows))

    @property
    def choices(self) -> tuple[Choice, ...]:
        return figures.choices(self.tokens[self.place])

    def _row(self, number: int, choice: Choice) -> Content:
        sampled = self.tokens[self.place].token
        mark = "▸ " if number == self.rank else "  "
        bar = "━" * round(BAR * choice.probability)
        text = f"{mark}{choice.probability:6.1%}  {bar:{BAR}}  {figures.token(choice.text)}"
        here = "  in the answer" if sampled and choice.id == sampled.id else ""
        return Content.assemble((text, "bold" if number == self.rank else ""), (here, "$text-muted"))

    def action_step(self, step: int) -> None:
        self.action_go(min(max(self.place + step, 0), len(self.tokens) - 1))

    def action_go(self, place: int) -> None:
        """Go to a token; the last is -1."""
        self.place, self.rank = place % len(self.tokens), 0
        self.draw()

    def action_pick(self, step: int) -> None:
        self.rank = min(max(self.rank + step, 0), len(self.choices) - 1)
        self.draw()

    def action_instead(self) -> None:
        self.dismiss((self.place, self.choices[self.rank]))


def style(probability: float) -> str:
    return "$text-error" if probability < OPEN else "$text-warning" if probability < UNSURE else ""
