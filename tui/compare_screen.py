"""Two answers to one question, side by side."""

from collections.abc import Iterable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from mlx_llava.tui import figures
from mlx_llava.tui.clean import clean, clean_line
from mlx_llava.tui.comparison import Comparison
from mlx_llava.tui.conversation import Node

LOOK = 0.1  # seconds between two looks at the answers


class CompareScreen(ModalScreen[None]):
    """Shows two answers as they come, and what they took; closing it stops what is not there yet."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Close")]

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison

    def compose(self) -> Iterable[Widget]:
        """The question, an answer on either side, what they took below them."""
        with Vertical(classes="dialog compare"):
            yield Static(clean_line(self.comparison.question.text, 200), markup=False, classes="heading")
            with Horizontal(classes="views"):
                for side in ("left", "right"):
                    with Vertical(id=side):
                        yield Static("", markup=False, classes="name")
                        with VerticalScroll():
                            yield Static("", markup=False, classes="text")
                        yield Static("", markup=False, classes="facts")
            yield Static("", markup=False, classes="keys")

    def on_mount(self) -> None:
        """Look again and again."""
        self.set_interval(LOOK, self.draw)
        self.draw()

    def draw(self) -> None:
        """Show the answers as they are now."""
        comparison = self.comparison
        self._show("left", comparison.left, figures.model_name_of(comparison.back))
        self._show("right", comparison.right, figures.model_name_of(comparison.load))
        self.query_one(".keys", Static).update(f"{comparison.told} · Esc close")

    def _show(self, side: str, answer: Node, name: str) -> None:
        texts = {
            "name": clean_line(answer.facts.get("variant") or name, 60),
            "text": clean(answer.text),
            "facts": "\n".join(figures.stats_lines(answer.facts)[1:]) if answer.facts else "",
        }
        for what, text in texts.items():
            self.query_one(f"#{side} .{what}", Static).update(text)
