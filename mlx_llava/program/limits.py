"""The range of a number, said on its field: `epochs: Annotated[int, Limits(1, 10_000)] = 1`."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

from mlx_llava.errors import UsageError

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
        """What to tell somebody whose value is out of range."""
        return f"Give a number from {self.low:g} to {self.high:g}."


def marks(options: type[Any], kind: type[Mark]) -> Iterator[tuple[str, Mark]]:
    """The fields of a dataclass that are annotated with an instance of `kind`, and that instance."""
    hints = get_type_hints(options, include_extras=True)
    for field in dataclasses.fields(options):
        hint = hints[field.name]
        notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        for note in notes:
            if isinstance(note, kind):
                yield field.name, note


def check_limits(options: Any) -> None:
    """Raise UsageError for a field whose value is out of its range; None is in every range."""
    for name, limits in marks(type(options), Limits):
        value = getattr(options, name)
        if value is not None and value not in limits:
            raise UsageError(f"--{name.replace('_', '-')} {value} is out of range", limits.advice)
