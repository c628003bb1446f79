"""An answer while the engine generates it."""

import time
from dataclasses import dataclass

from mlx_llava.engine.messages import AnswerFinished, AnswerPiece, AnswerStarted, ModelFacts
from mlx_llava.tui.session import figures
from mlx_llava.tui.session.conversation import Node

RATE = 1.0  # seconds that the token rate is averaged over


@dataclass
class PendingAnswer:
    number: int
    """Number of its request."""
    node: Node
    start: AnswerStarted | None = None
    times: tuple[float, ...] = ()
    cancelled: bool = False

    @property
    def rate(self) -> float:
        """Recent tokens per second."""
        recent = [t for t in self.times if t > self.times[-1] - RATE] if self.times else []
        return (len(recent) - 1) / (recent[-1] - recent[0]) if len(recent) > 2 else 0.0

    def grow(self, piece: AnswerPiece) -> None:
        self.node.text += piece.text
        self.times = (*self.times[-200:], time.monotonic())
        if piece.token:
            self.node.tokens.append(piece)

    def finish(self, event: AnswerFinished, model: ModelFacts | None) -> None:
        """Note the facts of the finished answer in its node."""
        self.cancelled = event.finish == "cancelled"
        names = {"model": model.name, "variant": figures.model_name(model)} if model else {}
        facts = vars(event) | names | (vars(self.start) if self.start else {})
        self.node.facts = {name: value for name, value in facts.items() if name != "number"}

    def abandon(self) -> None:
        self.cancelled = True
        if self.node.text:
            self.node.facts = {"finish": "cancelled"}
