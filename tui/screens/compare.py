"""Two answers to one question, side by side."""

import re
from difflib import SequenceMatcher
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import Static

from mlx_llava.program.text import clean, clean_line
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.comparison import Comparison
from mlx_llava.tui.session.conversation import Node

INTERVAL = 0.1  # seconds between two updates
WORDS = 1000  # in an answer; comparing takes quadratic time


class CompareScreen(ModalScreen[None]):
    """Shows two answers as they grow, and what they took; closing it stops the rest."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,q", "dismiss", "Close")]

    def __init__(self, comparison: Comparison) -> None:
        super().__init__()
        self.comparison = comparison
        self._state: tuple[str, str, bool, str] | None = None

    def compose(self) -> ComposeResult:
        question = self.comparison.left.parent
        with Vertical(classes="dialog compare"):
            yield Static(clean_line(question.text if question else "", 200), markup=False, classes="heading")
            with Horizontal(classes="views"):
                for side in ("left", "right"):
                    with Vertical(id=side):
                        yield Static("", markup=False, classes="name")
                        with VerticalScroll():
                            yield Static("", markup=False, classes="text")
                        yield Static("", markup=False, classes="facts")
            yield Static("", markup=False, classes="keys")

    def on_mount(self) -> None:
        self.set_interval(INTERVAL, self.draw)
        self.draw()

    def draw(self) -> None:
        comparison = self.comparison
        left, right = comparison.left, comparison.right
        state = (left.text, right.text, bool(right.facts), comparison.status)
        if state == self._state:
            return
        self._state, ended = state, bool(right.facts)
        self._show("left", left, comparison.names[0], right.text if ended else left.text)
        self._show("right", right, comparison.names[1], left.text if ended else right.text)
        self.query_one(".keys", Static).update(f"{comparison.status} · Esc close")

    def _show(self, side: str, answer: Node, name: str, other: str) -> None:
        facts = answer.facts
        variant = facts.get("variant") if self.comparison.load else None
        self.query_one(f"#{side} .name", Static).update(clean_line(variant or name, 60))
        self.query_one(f"#{side} .text", Static).update(marked(clean(answer.text), clean(other)))
        self.query_one(f"#{side} .facts", Static).update(figures.cost_lines(facts))


def marked(text: str, other: str) -> Content:
    """Mark the words that another text does not have; long texts stay unmarked."""
    ours, theirs = (re.findall(r"\s*\S+\s*", words) for words in (text, other))
    if text == other or max(len(ours), len(theirs)) > WORDS:
        return Content(text)
    same = SequenceMatcher(None, [w.strip() for w in ours], [w.strip() for w in theirs], autojunk=False)
    runs = [("".join(ours[start:end]), what) for what, start, end, _, _ in same.get_opcodes()]
    return Content.assemble(*((run, "" if what == "equal" else "bold $accent") for run, what in runs))
