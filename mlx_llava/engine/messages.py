"""What the front asks of the engine, and what the engine tells.

Frozen values that cross between threads; knows neither MLX nor Textual.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Finish = Literal["stop", "length", "cancelled"]
Fit = Literal["crop", "pad"]


@dataclass(frozen=True)
class Shown:
    """A picture file as it goes to the engine."""

    name: str
    digest: str
    """SHA-256 of the file."""
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Exchange:
    """A question with its pictures, and its answer once there is one."""

    question: str
    images: tuple[Shown, ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class AnswerSettings:
    """How to answer; None takes what the model was converted with."""

    system: str | None = None
    template: str | None = None
    fit: Fit | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    num_top: int = 0
    """Likeliest alternatives to report for every token."""


@dataclass(frozen=True)
class Load:
    """Replace the model; None is the small one of the package."""

    model: str | None = None
    adapter: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Ask:
    """Answer the last exchange, which has no answer yet. Numbers grow."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings
    begin: tuple[int, ...] = ()
    """Ids of the tokens that the answer begins with."""


@dataclass(frozen=True)
class Count:
    """Count the tokens of a conversation whose last exchange is a draft."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings


@dataclass(frozen=True)
class MapAttention:
    """Tell where the answer of the last exchange looked."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings


Request = Load | Ask | Count | MapAttention


@dataclass(frozen=True)
class ModelFacts:
    """What the front needs to know of a loaded model."""

    name: str
    adapter: str | None
    context: int
    """Positions at most."""
    image_tokens: int
    """Tokens that one picture takes."""
    patches: int
    """Patches along an edge."""
    side: int
    """Pixels along an edge of what the tower sees."""
    fit: Fit
    mean: tuple[float, float, float]
    template: str
    system: str
    """The template's own system prompt."""
    bits: int | None
    """Bits of packed weights, if any are packed."""
    memory: int
    """Bytes in use once it is loaded."""
    device: str
    seconds: float


@dataclass(frozen=True)
class Loading:
    """A model is on its way."""

    load: Load
    name: str


@dataclass(frozen=True)
class Loaded:
    """A model is there."""

    load: Load
    """What it was asked for by."""
    model: ModelFacts


@dataclass(frozen=True)
class Counted:
    """Tokens of a conversation by what they show."""

    number: int
    system: int
    images: int
    history: int
    draft: int
    context: int
    starts: tuple[int, ...] = ()
    """The position at which each picture begins."""

    @property
    def total(self) -> int:
        """All of them."""
        return self.system + self.images + self.history + self.draft


@dataclass(frozen=True)
class AnswerStarted:
    """The first token of an answer is there; seconds."""

    number: int
    prompt_tokens: int
    image_tokens: int
    prefilled_tokens: int
    vision: float
    prefill: float
    first_token: float


@dataclass(frozen=True)
class Choice:
    """A token that might have been: its text, probability and id."""

    text: str
    probability: float
    id: int = 0


@dataclass(frozen=True)
class AnswerPiece:
    """A piece of an answer: one token, and the text that is certain with it."""

    number: int
    text: str
    token: Choice | None = None
    """The token itself, where alternatives were asked for."""
    others: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class AnswerFinished:
    """An answer has ended."""

    number: int
    finish: Finish
    tokens: int
    tokens_per_second: float
    memory: int
    peak: int


@dataclass(frozen=True, eq=False)
class AttentionMapped:
    """Where an answer looked: shares of attention, from 0 to 1."""

    number: int
    tokens: tuple[str, ...]
    """The answer, token by token."""
    as_said: bool
    """Whether it was said just so; else its text was read anew, by the model and with the settings of now."""
    shares: "NDArray[np.float32]" = field(repr=False)  # [tokens, pictures, side, side]
    neutral: "NDArray[np.float32]" = field(repr=False)  # [pictures, side, side] where each is only to be described


@dataclass(frozen=True)
class Failed:
    """A request could not be fulfilled: one line that says what is wrong, one that says what to do."""

    request: Request
    problem: str
    advice: str


@dataclass(frozen=True)
class Crashed:
    """The engine is gone; what was said stays."""

    problem: str


Event = Loading | Loaded | Counted | AnswerStarted | AnswerPiece | AnswerFinished | AttentionMapped | Failed | Crashed
