"""The line at the top: the chat's title and the model."""

from collections.abc import Iterable

from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from mlx_llava.program.text import clean_line
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.session import Session


class Title(Horizontal):
    """Shows what the chat is called and which model answers."""

    def __init__(self) -> None:
        super().__init__(id="top")

    def compose(self) -> Iterable[Widget]:
        yield Static("mlx-llava", markup=False, classes="title")
        yield Static("", markup=False, classes="where")

    def show(self, session: Session) -> None:
        questions, model = session.conversation.questions, session.model
        title = session.record.title or (questions[0].text if questions else "") or "mlx-llava"
        self.query_one(".title", Static).update(clean_line(title, 200))
        where = f"{clean_line(figures.model_name(model), 40)} · {clean_line(model.device, 24)}" if model else ""
        hidden = "not saved · " if session.record.incognito else ""
        self.query_one(".where", Static).update(hidden + where)
