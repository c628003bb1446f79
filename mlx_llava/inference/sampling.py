"""Options of generation and its result, a token; imports neither MLX nor mlx-lm."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

Finish = Literal["stop", "length", "cancelled"]  # why an answer ended


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and how many there may be."""

    max_tokens: int = 512
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class CacheOptions:
    """Which keys and values are cached: all of them, the last `max_size`, or all quantized to `bits`."""

    max_size: int | None = None
    bits: int | None = None


class Token(NamedTuple):
    """A generated token; on request with its log-probability and the likeliest (id, log-probability) pairs."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()
