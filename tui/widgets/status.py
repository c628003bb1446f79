"""The line at the foot: what is going on, how fast, how much memory, how full the context."""

from rich.text import Text
from textual.widgets import Static

from mlx_llava.program.text import clean_line
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.session import Session

BAR = 10  # cells
FULL = 0.85  # of the context: from here on the bar warns


class Status(Static):
    """Shows a session's state."""

    def __init__(self) -> None:
        super().__init__(id="status", markup=False)

    def show(self, session: Session) -> None:
        """Show the state as it is now."""
        left, right = state(session), self._right(session)
        width = self.size.width
        if left.cell_len + right.cell_len > width:
            right = self._filling(session)
        left.truncate(max(width - right.cell_len - 1, 0), overflow="ellipsis")
        gap = max(width - left.cell_len - right.cell_len, 1)
        self.update(Text.assemble(left, " " * gap, right, no_wrap=True))

    def _right(self, session: Session) -> Text:
        parts = [Text(part) for part in meters(session)]
        context = self._filling(session)
        return Text("  ").join([*parts, context]) if context else Text("  ").join(parts)

    def _filling(self, session: Session) -> Text:
        counted = session.counted
        if counted is None:
            return Text("")
        colours = self.app.theme_variables
        full = counted.total / counted.context
        trouble = colours["error"] if full >= 1 else colours["warning"] if full > FULL else ""
        reserved = max(min(session.settings.max_tokens, counted.context - counted.total), 0)
        parts = (
            ("▰", counted.images, colours["secondary"]),
            ("▰", counted.system, trouble or colours["success"]),
            ("▰", counted.history, trouble or colours["accent"]),
            ("▰", counted.draft, trouble or colours["primary"]),
            ("▱", reserved, colours["accent"]),
            ("▱", counted.context, colours["text-disabled"] if "auto" not in colours["text-disabled"] else "dim"),
        )
        bar, tokens = Text(), 0
        for cell, count, colour in parts:
            tokens += count
            end = min(max(round(BAR * tokens / counted.context), 1), BAR)
            bar.append(cell * (end - len(bar)), colour)
        return bar.append(f" {counted.total}/{counted.context}")


def state(session: Session) -> Text:
    """What is going on, in a few words."""
    if session.crashed:
        return Text("✕ the model is gone — /model brings it back")
    if session.answering:
        doing = "answering" if session.answering.began else "reading"
        return Text(f"● {doing} — Esc stops")
    if session.loading:
        return Text(f"◌ loading {clean_line(figures.tail(session.loading.model or 'the small model'), 40)}")
    if session.model is None:
        return Text("○ no model — /model NAME")
    return Text("○ ready   F1 help   ^P commands")


def meters(session: Session) -> list[str]:
    """Speed, time to the first token and memory of the answer that is on its way or was the last."""
    if session.answering:
        began = session.answering.began
        waits = [f"first {figures.seconds(began.first_token)}"] if began else []
        return [*([f"{session.answering.rate:.0f} tok/s"] if session.answering.rate else []), *waits]
    facts = next((node.facts for node in reversed(session.conversation.answers) if node.facts), {})
    memory = facts.get("memory") or (session.model.memory if session.model else 0)
    parts = []
    if facts.get("tokens_per_second"):
        parts.append(f"{facts['tokens_per_second']:.0f} tok/s")
    return [*parts, figures.memory(memory)] if memory else parts
