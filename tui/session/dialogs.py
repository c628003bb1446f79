"""The dialogs that a front end may open, and what each is about."""

from dataclasses import dataclass

from mlx_llava.tui.session.comparison import Comparison
from mlx_llava.tui.session.conversation import Node, NumberedImage


@dataclass(frozen=True)
class Help:
    """Keys and commands."""


@dataclass(frozen=True)
class Files:
    """Choose an image file."""

    typed: str = ""
    """Goes into the prompt if none is chosen."""


@dataclass(frozen=True)
class History:
    """Saved chats."""


@dataclass(frozen=True)
class Settings:
    """All settings."""


@dataclass(frozen=True)
class Models:
    """Models to download or load."""


@dataclass(frozen=True)
class Eyes:
    """Images as the model sees them."""


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


Dialog = Help | Files | History | Settings | Models | Eyes | Cover | Compare | Attention | Tokens
