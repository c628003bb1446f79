"""Records that cannot be trained on, and the one error that sums them up."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from mlx_llava.errors import RecordError

MAX_KINDS = 4  # of faults in an error
MAX_NUMBERS = 4  # of records with the same fault
_particular = re.compile(r"""'[^']*'|"[^"]*"|\d+""")


@dataclass(frozen=True)
class BadRecord:
    """A record and what is wrong with it; `advice` says what to do if that is not to fix the record."""

    number: int
    line: int
    problem: str
    advice: str = ""

    def __str__(self) -> str:
        return f"record {self.number}, line {self.line}: {self.problem}"


def summary(bad: Sequence[BadRecord]) -> str:
    """The first record with each kind of fault, and the numbers of others.

    Faults that differ only in names and numbers are of one kind.
    """
    kinds = dict[str, list[BadRecord]]()
    for record in bad:
        kinds.setdefault(_particular.sub("", record.problem), []).append(record)
    lines = [_with_others(kind) for kind in islice(kinds.values(), MAX_KINDS)]
    rest = sum(map(len, islice(kinds.values(), MAX_KINDS, None)))
    return "; ".join([*lines, *([f"and {rest} more"] if rest else [])])


def refusal(file: Path, bad: Sequence[BadRecord], *, may_leave_out: bool = True) -> RecordError:
    """The error about bad records, which advises --leave-out unless that leaves nothing."""
    problem = f"{file}: {f'{len(bad)} bad records: ' if len(bad) > 1 else ''}{summary(bad)}"
    advice = " ".join(dict.fromkeys(record.advice or "Fix these records." for record in bad))
    return RecordError(problem, f"{advice} Or skip them with --leave-out." if may_leave_out else advice)


def _with_others(same: Sequence[BadRecord]) -> str:
    if len(same) == 1:
        return str(same[0])
    numbers = [str(record.number) for record in same[1 : MAX_NUMBERS + 1]]
    more = [f"{len(same) - 1 - MAX_NUMBERS} more"] if len(same) > MAX_NUMBERS + 1 else []
    *first, last = [*numbers, *more]
    others = f"{', '.join(first)} and {last}" if first else last
    return f"{same[0]} (also record{'s' * (len(same) > 2)} {others})"
