"""Requests that a front end sends to the engine, and the events that come back.

Frozen values that cross threads. Knows neither MLX nor Textual.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from mlx_llava.config import Fit
from mlx_llava.inference.sampling import Finish, Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class ImageFile:
    """An image file as sent to the engine."""

    name: str
    digest: str
    """SHA-256 of the file."""
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Exchange:
    """A question, its images, and its answer if there is one."""

    question: str
    images: tuple[ImageFile, ...] = ()
    answer: str | None = None


@dataclass(frozen=True)
class AnswerSettings:
    """How to answer; None means the value stored with the model."""

    system: str | None = None
    template: str | None = None
    fit: Fit | None = None
    decoding: Literal["display", "training"] = "display"
    sampling: Sampling = Sampling()
    num_top: int = 0
    """Number of most likely alternatives to report per token."""


@dataclass(frozen=True)
class Load:
    """Load a model in place of the current one; None loads the bundled model."""

    model: str | None = None
    adapter: str | None = None
    revision: str | None = None


@dataclass(frozen=True)
class Ask:
    """Answer the last exchange. Numbers increase from request to request."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings
    prefix: tuple[int, ...] = ()
    """Token ids that the answer starts with."""


@dataclass(frozen=True)
class Count:
    """Count the tokens of a conversation; its last exchange is the draft."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings


@dataclass(frozen=True)
class MapAttention:
    """Map the attention of the last exchange's answer to its images."""

    number: int
    exchanges: tuple[Exchange, ...]
    answer_settings: AnswerSettings


Request = Load | Ask | Count | MapAttention


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the loaded model that a front end needs."""

    name: str
    adapter: str | None
    context: int
    """Maximum number of positions."""
    image_tokens: int
    """Tokens per image."""
    patches: int
    """Patches along one edge."""
    side: int
    """Pixels along one edge of the vision tower's input."""
    fit: Fit
    mean: tuple[float, float, float]
    template: str
    system: str
    """Default system prompt of the template."""
    bits: int | None
    """Bits per quantized weight; None if the model is not quantized."""
    memory: int
    """Bytes in use after loading."""
    device: str
    seconds: float


@dataclass(frozen=True)
class Loading:
    """Loading has started."""

    load: Load
    name: str


@dataclass(frozen=True)
class Loaded:
    """A model is ready."""

    load: Load
    """The request."""
    model: ModelFacts


@dataclass(frozen=True)
class Counted:
    """Tokens of a conversation, by kind."""

    number: int
    system: int
    images: int
    history: int
    draft: int
    context: int
    starts: tuple[int, ...] = ()
    """Position of each image's first token."""

    @property
    def total(self) -> int:
        """Tokens of the whole prompt."""
        return self.system + self.images + self.history + self.draft


@dataclass(frozen=True)
class AnswerStarted:
    """The first token of an answer is ready. Times are in seconds."""

    number: int
    prompt_tokens: int
    image_tokens: int
    prefilled_tokens: int
    vision: float
    prefill: float
    first_token: float


@dataclass(frozen=True)
class Choice:
    """A candidate token: its text, probability and id."""

    text: str
    probability: float
    id: int = 0


@dataclass(frozen=True)
class AnswerPiece:
    """One token of an answer, and the text that it completes."""

    number: int
    text: str
    token: Choice | None = None
    """The sampled token, if alternatives were requested."""
    others: tuple[Choice, ...] = ()


@dataclass(frozen=True)
class AnswerFinished:
    """An answer is complete, or was cancelled."""

    number: int
    finish: Finish
    tokens: int
    tokens_per_second: float
    memory: int
    peak: int


@dataclass(frozen=True, eq=False)
class AttentionMapped:
    """The attention of each answer token to each image patch, from 0 to 1."""

    number: int
    tokens: tuple[str, ...]
    """The answer, token by token."""
    verbatim: bool
    """False if the text was re-read with the current model and settings, not as it was generated."""
    shares: "NDArray[np.float32]" = field(repr=False)  # [tokens, images, side, side]
    neutral: "NDArray[np.float32]" = field(repr=False)  # [images, side, side], for the prompt "describe it"


@dataclass(frozen=True)
class Failed:
    """A request failed: one line on what is wrong, one on what to do."""

    request: Request
    problem: str
    advice: str


@dataclass(frozen=True)
class Crashed:
    """The engine's thread ended with an error."""

    problem: str


Event = Loading | Loaded | Counted | AnswerStarted | AnswerPiece | AnswerFinished | AttentionMapped | Failed | Crashed
