"""The settings of the chat: what each may be, and how it is typed and shown."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from random import SystemRandom
from typing import Annotated, Any, Literal, get_args, get_type_hints

from mlx_llava.config import Fit
from mlx_llava.engine.messages import AnswerSettings
from mlx_llava.errors import UsageError
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.limits import (
    MAX_TOKENS,
    MIN_P,
    REPETITION_PENALTY,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Limits,
    marks,
)
from mlx_llava.program.text import clean_line
from mlx_llava.prompts.templates import TEMPLATES

LONGEST = 100_000  # characters of a text
NUM_TOP = 5  # alternatives to report per token
ALIASES = {
    "temp": "temperature",
    "repetition_penalty": "penalty",
    "system_prompt": "system",
    "picture_mode": "fit",
    "pictures": "images",
}
DEFAULT = "default"  # typed to undo a choice


@dataclass(frozen=True)
class Kind:
    """The values that a setting may have."""

    hint: str
    """Completes "must be"."""
    read: Callable[[str], Any]
    """Converts typed text; raises ValueError or KeyError."""
    accepts: Callable[[Any], bool]


def _number(limits: Limits, whole: bool) -> Kind:
    def accepts(value: Any) -> bool:
        return (type(value) is int or (type(value) is float and not whole)) and value in limits

    hint = f"a {'whole ' if whole else ''}number from {limits.low} to {limits.high}"
    return Kind(hint, int if whole else float, accepts)


def _choice(*names: str, **synonyms: str) -> Kind:
    words = {name: name for name in names} | synonyms
    return Kind(f"one of {', '.join(names)}", lambda text: words[text.lower()], lambda value: value in names)


def _line(hint: str) -> Kind:
    def accepts(value: Any) -> bool:
        return isinstance(value, str) and 0 < len(value) <= LONGEST and value.isprintable()

    return Kind(hint, str, accepts)


_PROMPT = Kind("a text, or none", lambda text: "" if text == "none" else text, lambda v: isinstance(v, str))
_SWITCH = Kind("on or off", {"on": True, "off": False}.__getitem__, lambda value: isinstance(value, bool))
_TEMPLATE = _choice(*sorted(name for name, template in TEMPLATES.items() if not template.captions))
_DECODING = _choice("display", "training")
_IMAGES = _choice("auto", "blocks", "off", on="auto")


@dataclass(frozen=True)
class Settings:
    """Settings of the chat, each with what it may be and a description; None means the model's own, or random."""

    system: Annotated[str | None, _PROMPT, "System prompt; none for an empty one."] = None
    template: Annotated[str | None, _TEMPLATE, "Prompt template."] = None
    fit: Annotated[Fit | None, _choice(*get_args(Fit)), "How a picture becomes a square."] = None
    temperature: Annotated[float, TEMPERATURE, "Randomness of the answers; 0 is none."] = 0.0
    top_p: Annotated[float, TOP_P, "Sample this share of likely tokens."] = 1.0
    top_k: Annotated[int, TOP_K, "Sample this many tokens; 0 is all."] = 0
    min_p: Annotated[float, MIN_P, "Least chance, beside the likeliest's."] = 0.0
    penalty: Annotated[float, REPETITION_PENALTY, "Above 1 makes repeats less likely."] = 1.0
    max_tokens: Annotated[int, MAX_TOKENS, "Longest answer, in tokens."] = 512
    seed: Annotated[int | None, SEED, "Random seed; random: always a new one."] = None
    decoding: Annotated[Literal["display", "training"], _DECODING, "How the model gets pictures."] = "display"
    alternatives: Annotated[bool, _SWITCH, "Record alternatives to each token."] = False
    images: Annotated[Literal["auto", "blocks", "off"], _IMAGES, "How pictures are drawn; blocks: coarse."] = "auto"
    theme: Annotated[str, _line("the name of a theme"), "Colors of the screen."] = "llava-dark"
    model: Annotated[str | None, _line("a folder or owner/name"), "Model to start with."] = None
    adapter: Annotated[str | None, _line("a folder"), "Adapter to start with."] = None
    screen_reader: Annotated[bool, _SWITCH, "Plain lines, from the next start on."] = False
    incognito: Annotated[bool, _SWITCH, "Save no chats."] = False

    def set(self, name: str, text: str) -> "Settings":
        """Return the settings with one changed as typed; UsageError if it may not be that."""
        name = setting_name(name)
        kind = KINDS[name]
        if text.strip() in (DEFAULT, "random" if name == "seed" else DEFAULT):
            return replace(self, **{name: getattr(Settings(), name)})
        try:
            value = kind.read(text.strip())
        except (ValueError, KeyError):
            value = None
        if value is None or not kind.accepts(value):
            raise UsageError(
                f"{name} {clean_line(text, 60)}: must be {kind.hint}", f"/set {name} {DEFAULT} restores the default."
            )
        return replace(self, **{name: value})

    def spelled(self, name: str) -> str:
        """Return a setting as `set` reads it."""
        value = getattr(self, setting_name(name))
        if value is None:
            return "random" if setting_name(name) == "seed" else DEFAULT
        if isinstance(value, bool):
            return "on" if value else "off"
        return str(value) if value != "" else "none"

    def sampling(self) -> Sampling:
        """Return the sampling of the next answer, with a random seed if none is set."""
        return Sampling(
            max_tokens=self.max_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            min_p=self.min_p,
            repetition_penalty=self.penalty,
            seed=SystemRandom().randrange(2**31) if self.seed is None else self.seed,
        )

    def for_answer(self) -> AnswerSettings:
        """Return the settings of the next answer."""
        return AnswerSettings(
            system=self.system,
            template=self.template,
            fit=self.fit,
            decoding=self.decoding,
            sampling=self.sampling(),
            num_top=NUM_TOP if self.alternatives else 0,
        )


NAMES = [field.name for field in fields(Settings)]
ABOUT = dict(marks(Settings, str))
KINDS = dict(marks(Settings, Kind)) | {
    name: _number(limits, whole=get_type_hints(Settings)[name] is not float) for name, limits in marks(Settings, Limits)
}


def setting_name(name: str) -> str:
    """Return the setting that a typed name means; UsageError if there is none."""
    plain = name.strip().lower().replace("-", "_")
    plain = ALIASES.get(plain, plain)
    if plain not in NAMES:
        near = difflib.get_close_matches(plain, [*NAMES, *ALIASES], 1)
        advice = f"Did you mean {near[0]}?" if near else f"There are {', '.join(NAMES)}."
        raise UsageError(f"there is no setting {clean_line(name, 60)}", advice)
    return plain


def accepts(name: str, value: Any) -> bool:
    """Whether a setting may have this value."""
    return KINDS[name].accepts(value) or (value is None and getattr(Settings(), name) is None)
