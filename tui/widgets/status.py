"""The lines at the top and the bottom: title and model; state, speed, memory, and how full the context is."""

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import Static

from mlx_llava.program.text import clean_line, size
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.session import Session

BAR = 10  # cells
FULL = 0.85  # share of the context from which the bar warns


class Title(Horizontal):
    """Shows what the chat is called and which model answers."""

    def __init__(self) -> None:
        super().__init__(id="top")

    def compose(self) -> ComposeResult:
        yield Static("mlx-llava", markup=False, classes="title")
        yield Static("", markup=False, classes="where")

    def show(self, session: Session) -> None:
        questions, model = session.conversation.questions, session.model
        title = session.record.title or (questions[0].text if questions else "") or "mlx-llava"
        self.query_one(".title", Static).update(clean_line(title, 200))
        where = f"{clean_line(figures.model_name(model), 40)} · {clean_line(model.device, 24)}" if model else ""
        hidden = "not saved · " if session.record.incognito else ""
        self.query_one(".where", Static).update(hidden + where)


class Status(Static):
    def __init__(self) -> None:
        super().__init__(id="status", markup=False)

    def show(self, session: Session) -> None:
        left, filling, width = state(session), self._filling(session), self.size.width
        right = Text("  ").join([*map(Text, meters(session)), *([filling] if filling else [])])
        if left.cell_len + right.cell_len > width:
            right = filling
        left.truncate(max(width - right.cell_len - 1, 0), overflow="ellipsis")
        gap = max(width - left.cell_len - right.cell_len, 1)
        self.update(Text.assemble(left, " " * gap, right, no_wrap=True))

    def _filling(self, session: Session) -> Text:
        usage = session.engine.usage
        if usage is None:
            return Text("")
        colors = self.app.theme_variables
        full = usage.total / usage.context
        trouble = colors["error"] if full >= 1 else colors["warning"] if full > FULL else ""
        reserved = max(min(session.settings.max_tokens, usage.context - usage.total), 0)
        parts = (
            ("▰", usage.images, colors["secondary"]),
            ("▰", usage.system, trouble or colors["success"]),
            ("▰", usage.history, trouble or colors["accent"]),
            ("▰", usage.draft, trouble or colors["primary"]),
            ("▱", reserved, colors["accent"]),
            ("▱", usage.context, colors["text-disabled"] if "auto" not in colors["text-disabled"] else "dim"),
        )
        bar, tokens = Text(), 0
        for cell, count, color in parts:
            tokens += count
            end = min(max(round(BAR * tokens / usage.context), 1), BAR)
            bar.append(cell * (end - len(bar)), color)
        return bar.append(f" {usage.total}/{usage.context}")


def state(session: Session) -> Text:
    if session.engine.crashed:
        return Text("✕ the engine crashed — /model starts it again")
    if session.answering:
        return Text(f"● {'answering' if session.answering.start else 'reading'} — Esc stops")
    if loading := session.engine.loading:
        return Text(f"◌ loading {clean_line(figures.tail(loading.model or 'the bundled model'), 40)}")
    if session.model is None:
        return Text("○ no model — /model NAME")
    return Text("○ ready   F1 help   ^P commands")


def meters(session: Session) -> list[str]:
    """Return speed, time to the first token and memory of the answer in progress, or of the last one."""
    if session.answering:
        start = session.answering.start
        waits = [f"first {figures.seconds(start.first_token)}"] if start else []
        return [*([f"{session.answering.rate:.0f} tok/s"] if session.answering.rate else []), *waits]
    facts = next((node.facts for node in reversed(session.conversation.answers) if node.facts), {})
    memory = facts.get("memory") or (session.model.memory if session.model else 0)
    parts = []
    if facts.get("tokens_per_second"):
        parts.append(f"{facts['tokens_per_second']:.0f} tok/s")
    return [*parts, size(memory)] if memory else parts
