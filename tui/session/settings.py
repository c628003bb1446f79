"""What a person can choose, by name: what each setting may be, and what to say where it is something else."""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from mlx_llava.errors import UsageError
from mlx_llava.program.text import clean_line
from mlx_llava.prompts.templates import TEMPLATES

LONGEST = 100_000  # characters of a text
ALIASES = {"temp": "temperature", "system_prompt": "system", "picture_mode": "fit", "pictures": "images"}
DEFAULT = "default"  # the word for what a setting is before anybody chose


@dataclass(frozen=True)
class Kind:
    """What a setting may be."""

    hint: str
    """Completes "must be"."""
    read: Callable[[str], Any]
    """What a typed text means; ValueError or KeyError where it means nothing."""
    bears: Callable[[Any], bool]
    """Whether it may be this value."""


def _number(low: float, high: float, *, whole: bool = False) -> Kind:
    def bears(value: Any) -> bool:
        number = type(value) is int or (type(value) is float and not whole and math.isfinite(value))
        return number and low <= value <= high

    return Kind(f"a {'whole ' if whole else ''}number from {low} to {high}", int if whole else float, bears)


def _choice(*names: str, **others: str) -> Kind:
    """One of some names; `others` are other words for them."""
    words = {name: name for name in names} | others
    return Kind(f"one of {', '.join(names)}", lambda text: words[text.lower()], lambda value: value in names)


def _line(hint: str) -> Kind:
    def bears(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()

    return Kind(hint, str, bears)


_PROMPT = Kind("a text, or none", lambda text: "" if text == "none" else text, lambda v: isinstance(v, str))
_SWITCH = Kind("on or off", {"on": True, "off": False}.__getitem__, lambda value: isinstance(value, bool))
_TEMPLATE = _choice(*sorted(name for name, template in TEMPLATES.items() if not template.captions))


def _setting(default: Any, kind: Kind, about: str) -> Any:
    return field(default=default, metadata={"kind": kind, "about": about})


@dataclass(frozen=True)
class Settings:
    """Settings of the terminal chat; None is what the model was converted with, or chance for the seed."""

    system: str | None = _setting(None, _PROMPT, "System prompt; none for an empty one.")
    template: str | None = _setting(None, _TEMPLATE, "Prompt template.")
    fit: Literal["crop", "pad"] | None = _setting(None, _choice("crop", "pad"), "How a picture becomes a square.")
    temperature: float = _setting(0.0, _number(0, 2), "Chance in the choice of words; 0 is none.")
    top_p: float = _setting(1.0, _number(0.01, 1), "Share of likely words to choose from.")
    max_tokens: int = _setting(512, _number(1, 32_768, whole=True), "Longest answer.")
    seed: int | None = _setting(None, _number(0, 2**63 - 1, whole=True), "Start of chance; random unless given.")
    alternatives: bool = _setting(False, _SWITCH, "Note what else each word might have been.")
    images: Literal["auto", "blocks", "off"] = _setting(
        "auto", _choice("auto", "blocks", "off", on="auto"), "Pictures; blocks never draws finely."
    )
    theme: str = _setting("llava-dark", _line("the name of a theme"), "Colours of the screen.")
    model: str | None = _setting(None, _line("a folder or owner/name"), "Model to begin with.")
    adapter: str | None = _setting(None, _line("a folder"), "Adapter to begin with.")
    screen_reader: bool = _setting(False, _SWITCH, "Plain lines, from the next start on.")
    incognito: bool = _setting(False, _SWITCH, "Keep no chats.")

    def set(self, name: str, text: str) -> "Settings":
        """The settings with one changed as typed; UsageError that says what it may be."""
        name = setting_name(name)
        kind = kind_of(name)
        if text.strip() in (DEFAULT, "random" if name == "seed" else DEFAULT):
            return replace(self, **{name: getattr(Settings(), name)})
        try:
            value = kind.read(text.strip())
        except (ValueError, KeyError):
            value = None
        if value is None or not kind.bears(value):
            raise UsageError(
                f"{name} {clean_line(text, 60)}: must be {kind.hint}", f"/set {name} {DEFAULT} undoes a choice."
            )
        return replace(self, **{name: value})

    def spelled(self, name: str) -> str:
        """A setting as `set` would be told it."""
        value = getattr(self, setting_name(name))
        if value is None:
            return "random" if setting_name(name) == "seed" else DEFAULT
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value) if value != "" else "none"


def names() -> list[str]:
    """All settings."""
    return [f.name for f in fields(Settings)]


def setting_name(name: str) -> str:
    """The setting that a name means, spelled as people do; UsageError where there is none."""
    plain = name.strip().lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain not in names():
        near = difflib.get_close_matches(plain, [*names(), *ALIASES], 1)
        advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(names())}."
        raise UsageError(f"there is no setting {clean_line(name, 60)}", advice)
    return plain


def kind_of(name: str) -> Kind:
    """What a setting may be."""
    return _metadata(name)["kind"]


def about(name: str) -> str:
    """What a setting is, in a sentence."""
    return _metadata(name)["about"]


def bears(name: str, value: Any) -> bool:
    """Whether a setting may have this value."""
    return kind_of(name).bears(value) or (value is None and getattr(Settings(), name) is None)


def _metadata(name: str) -> Any:
    return next(f.metadata for f in fields(Settings) if f.name == setting_name(name))
