"""Checks the rows of a file, a chunk at a time: whether each is a record, how long it is, and which images it shows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.json_rows import Fault, parse
from mlx_llava.data.records import Record, record_of
from mlx_llava.data.source import Stamp, open_file

Places = tuple[Sequence[int], Sequence[int]]  # offsets and sizes of rows, in the order of the file
Reason = tuple[str, str]  # problem, advice


@dataclass
class CheckedRows:
    """Results for the rows of a chunk; a faulty row has no images and the length 0."""

    lengths: list[int] = field(default_factory=list)
    num_images: list[int] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    """The images of the chunk, numbered."""
    shown: list[int] = field(default_factory=list)
    """The numbers of all images of all rows."""
    faults: dict[int, Reason] = field(default_factory=dict)
    """The rows that are no records."""
    misfits: dict[int, Reason] = field(default_factory=dict)
    """The records that cannot become examples."""

    def add(self, record: Record) -> None:
        """Add a record."""
        self.lengths.append(record.length())
        self.num_images.append(len(record.images))
        self.shown += [self.names.setdefault(name, len(self.names)) for name in record.images]

    def add_faulty(self, fault: Fault) -> None:
        """Add a row that is no record."""
        self.faults[len(self.lengths)] = str(fault), fault.advice
        self.lengths.append(0)
        self.num_images.append(0)


@dataclass(frozen=True)
class RowCheck:
    """Checks rows; can be sent to a worker."""

    file: Path
    stamp: Stamp
    builder: ExampleBuilder | None
    """Builds the examples that records must become; None if none are needed."""

    def __call__(self, places: Places) -> CheckedRows:
        """Check the rows at these places."""
        offsets, sizes = places
        with open_file(self.file, self.stamp) as file:
            file.seek(offsets[0])
            data = file.read(offsets[-1] + sizes[-1] - offsets[0])
        checked = CheckedRows()
        for offset, size in zip(offsets, sizes, strict=True):
            start = offset - offsets[0]
            try:
                record = record_of(parse(data[start : start + size]), 0, "")
            except Fault as fault:
                checked.add_faulty(fault)
                continue
            if self.builder and (reason := self.builder.fault(record)):
                checked.misfits[len(checked.lengths)] = reason
            checked.add(record)
        return checked
