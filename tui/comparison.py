"""One question, two models: the second answers, then the first is brought back, for memory holds one at a time."""

from dataclasses import dataclass, field
from typing import Literal

from mlx_llava.tui.conversation import Node
from mlx_llava.tui.messages import Load


@dataclass
class Comparison:
    """A comparison on its way."""

    question: Node
    left: Node
    """The answer that is there."""
    load: Load
    """The other model."""
    back: Load
    """The model before."""
    right: Node = field(default_factory=lambda: Node("assistant"))
    """The other model's answer; a branch of the conversation once it has begun."""
    cancelled: bool = False
    stage: Literal["loading", "answering", "returning", "ended"] = "loading"

    @property
    def told(self) -> str:
        """What is going on, and how the answers compare once both are there."""
        if self.stage == "loading":
            return "loading the other model"
        if self.stage == "answering":
            return "answering"
        if not self.right.facts:
            return "there is no other answer"
        same = "the answers are the same" if self.left.text == self.right.text else "the answers differ"
        return same if self.stage == "ended" else f"{same}; loading the model before"
