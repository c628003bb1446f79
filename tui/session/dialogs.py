"""The dialogs that a front end may open; those about something in the chat hold it."""

from dataclasses import dataclass
from typing import Literal

from mlx_llava.tui.session.comparison import Comparison
from mlx_llava.tui.session.conversation import Node, NumberedImage

Page = Literal["help", "history", "settings", "models", "eyes"]


@dataclass(frozen=True)
class Files:
    """Choose an image file."""

    typed: str = ""
    """Goes into the prompt if none is chosen."""


@dataclass(frozen=True)
class Cover:
    """Cover part of an image."""

    image: NumberedImage


@dataclass(frozen=True)
class Compare:
    """Two answers side by side."""

    comparison: Comparison


@dataclass(frozen=True)
class Attention:
    """Attention of the last answer to its images."""

    token: int | None = None
    """Index of a token; None for all of them."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of an answer and their alternatives."""

    answer: Node


Dialog = Page | Files | Cover | Compare | Attention | Tokens
