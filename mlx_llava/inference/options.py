"""Options that `ask` and `chat` share: which model answers, how it is asked and how the next token is chosen."""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from mlx_llava.errors import UsageError
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.flags import flag
from mlx_llava.program.limits import (
    MAX_TOKENS,
    MIN_P,
    REPETITION_PENALTY,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    check_limits,
)

BATCH_SIZE = 8  # questions answered together


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Model."""

    model: Annotated[str | None, flag("MODEL", "-m")] = None
    """Converted folder, or a Hugging Face repository that holds one (default: the small bundled model)."""
    adapter_path: Annotated[Path | None, flag("FOLDER")] = None
    """Adapters trained on this model by `mlx-llava lora`."""
    revision: Annotated[str | None, flag("REVISION")] = None
    """Branch, tag or commit of the repository."""


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """Prompt."""

    system: Annotated[str | None, flag("TEXT", "-s", "--system-prompt")] = None
    """System prompt (default: the template's)."""
    template: Annotated[str | None, flag("NAME")] = None
    """Prompt template (default: the one recorded at conversion)."""
    decoding: Literal["display", "training"] = "display"
    """How image files are decoded: as a viewer displays them, or exactly as LLaVA's training and evaluation did."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions:
    """Sampling."""

    max_tokens: Annotated[int, MAX_TOKENS] = 512
    """Maximum length of the answer in tokens."""
    temp: Annotated[float, TEMPERATURE, flag("X", "--temperature")] = 0.0
    """Sampling temperature; 0 always picks the most likely token."""
    top_p: Annotated[float, TOP_P] = 1.0
    """Sample from the most likely tokens whose probabilities add up to this."""
    top_k: Annotated[int, TOP_K] = 0
    """Sample from this many of the most likely tokens; 0 means all."""
    min_p: Annotated[float, MIN_P] = 0.0
    """Sample from tokens at least this likely, relative to the most likely one."""
    repetition_penalty: Annotated[float, REPETITION_PENALTY] = 1.0
    """Values above 1 make the last 20 tokens less likely."""
    seed: Annotated[int | None, SEED, flag("N")] = None
    """Random seed for sampling (default: random)."""


def check_model(options: ModelOptions) -> None:
    """Raise UsageError for values out of range, and for a revision without a model."""
    check_limits(options)
    if options.revision and not options.model:
        raise UsageError("--revision without --model", "Name the repository with --model.")


def sampling_of(options: SamplingOptions) -> Sampling:
    """The sampling set by the flags, with a random seed if none is given."""
    return Sampling(
        max_tokens=options.max_tokens,
        temperature=options.temp,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=random.SystemRandom().randrange(2**31) if options.seed is None else options.seed,
    )
