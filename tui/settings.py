"""STUB, to be replaced whole: the fields that session.py and app.py read."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """Settings."""

    system: str | None = None
    template: str | None = None
    fit: Literal["crop", "pad"] | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    alternatives: bool = False
    images: Literal["auto", "half", "kitty", "off"] = "auto"
    theme: str = "llava-dark"
    model: str | None = None
    adapter: str | None = None
