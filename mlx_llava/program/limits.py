"""The range of a number, declared on its field: `epochs: Annotated[int, Limits(1, 10_000)] = 1`."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from mlx_llava.errors import UsageError
from mlx_llava.program.flags import flag_name

Mark = TypeVar("Mark")


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest value that a number may have."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high  # false for NaN

    @property
    def advice(self) -> str:
        """The second line of an error about a value out of range."""
        return f"Give a number from {_plain(self.low)} to {_plain(self.high)}."


# Sampling, wherever it is set
MAX_TOKENS = Limits(1, 2**20)
TEMPERATURE = Limits(0, 100)
TOP_P = Limits(1e-6, 1)
TOP_K = Limits(0, 2**20)
MIN_P = Limits(0, 1)
REPETITION_PENALTY = Limits(1e-3, 1e3)
SEED = Limits(0, 2**63 - 1)


def _plain(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def marks(options: type[Any], kind: type[Mark]) -> Iterator[tuple[str, Mark]]:
    """The names of a dataclass's fields annotated with an instance of `kind`, each with that instance."""
    hints = get_type_hints(options, include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        for mark in get_args(hint)[1:] if get_origin(hint) is Annotated else ():
            if isinstance(mark, kind):
                yield field.name, mark


def check_limits(options: Any) -> None:
    """Raise UsageError for a field whose value is out of its range; None is always allowed."""
    for name, limits in marks(type(options), Limits):
        value = getattr(options, name)
        if value is not None and value not in limits:
            raise UsageError(f"{flag_name(name)} {value} is out of range", limits.advice)
