"""How sure the model was of each token of an answer, and what else it might have said."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from mlx_llava.engine.messages import Choice
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node

UNSURE, OPEN = 0.9, 0.5  # probabilities below which a token is marked, and marked more
BAR = 20  # cells of a probability of 1


class TokensScreen(ModalScreen[tuple[int, Choice] | None]):
    """Returns the place of a token and what is to stand there instead."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Close"),
        Binding("left", "step(-1)", "Token before"),
        Binding("right", "step(1)", "Next token"),
        Binding("home", "go(0)", "First token"),
        Binding("end", "go(-1)", "Last token"),
        Binding("up", "pick(-1)", "Likelier one"),
        Binding("down", "pick(1)", "Less likely one"),
        Binding("enter", "instead", "Go on from it"),
    ]

    def __init__(self, answer: Node) -> None:
        super().__init__()
        self.tokens = [said for said in answer.tokens if said.token]
        self.at = 0
        self.picked = 0

    def compose(self) -> Iterable[Widget]:
        """The answer, the tokens that were likely at one place of it."""
        with Vertical(classes="dialog tokens"):
            yield Static("", markup=False, classes="heading")
            with VerticalScroll(classes="said"):
                yield Static("", markup=False, id="said")
            yield Static("", markup=False, id="others")
            keys = "← → token · ↑ ↓ what else · Enter go on from it · Esc close"
            yield Static(keys, markup=False, classes="keys")

    def on_mount(self) -> None:
        """Begin where the model was least sure."""
        chances = [said.token.probability for said in self.tokens if said.token]
        self.action_go(chances.index(min(chances)))

    def draw(self) -> None:
        """Show where we are."""
        self.query_one(".heading", Static).update(f"Token {self.at + 1} of {len(self.tokens)}")
        parts = [
            (figures.token(said.token.text), "reverse" if n == self.at else style(said.token.probability))
            for n, said in enumerate(self.tokens)
            if said.token
        ]
        self.query_one("#said", Static).update(Content.assemble(*parts))
        view = self.query_one(".said", VerticalScroll)
        row = len(Content.assemble(*parts[: self.at + 1]).wrap(max(view.size.width, 1)))
        self.call_after_refresh(view.scroll_to, y=row - view.size.height // 2, animate=False)
        rows = [self._row(n, choice) for n, choice in enumerate(self.choices)]
        self.query_one("#others", Static).update(Content("\n").join(rows))

    @property
    def choices(self) -> tuple[Choice, ...]:
        """What was likely at this place, what was said among it."""
        said = self.tokens[self.at]
        return figures.choices(said)

    def _row(self, number: int, choice: Choice) -> Content:
        said = self.tokens[self.at].token
        mark = "▸ " if number == self.picked else "  "
        bar = "━" * round(BAR * choice.probability)
        text = f"{mark}{choice.probability:6.1%}  {bar:{BAR}}  {figures.token(choice.text)}"
        here = "  was said" if said and choice.id == said.id else ""
        return Content.assemble((text, "bold" if number == self.picked else ""), (here, "$text-muted"))

    def action_step(self, step: int) -> None:
        """Go to another token."""
        self.action_go(min(max(self.at + step, 0), len(self.tokens) - 1))

    def action_go(self, place: int) -> None:
        """Go to a token; the last is -1."""
        self.at, self.picked = place % len(self.tokens), 0
        self.draw()

    def action_pick(self, step: int) -> None:
        """Pick another of those that were likely."""
        self.picked = min(max(self.picked + step, 0), len(self.choices) - 1)
        self.draw()

    def action_instead(self) -> None:
        """Go on from what is picked."""
        self.dismiss((self.at, self.choices[self.picked]))


def style(probability: float) -> str:
    """How a token of this probability looks."""
    return "$text-error" if probability < OPEN else "$text-warning" if probability < UNSURE else ""
