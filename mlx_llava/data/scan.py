"""One pass over a file of records: every row is parsed and checked once, in worker processes if the file is large."""

import hashlib
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.data.bad_records import BadRecord
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.image_table import ImageTable
from mlx_llava.data.json_rows import rows
from mlx_llava.data.loader import loader
from mlx_llava.data.row_check import CheckedRows, Places, RowCheck
from mlx_llava.data.source import Stamp, open_file, stamp_of
from mlx_llava.errors import RecordError

LARGE = 1 << 22  # bytes of a file that is worth starting workers for, and remembering
CHUNK, CHUNK_BYTES = 1000, 1 << 20  # rows, and about how many bytes, of a job; it fits into a pipe

Report = Callable[[int, int], object]
"""Receives the number of bytes checked so far, and the size of the file."""


@dataclass(frozen=True, eq=False)
class Scan:
    """The content of a file; says nothing of image files."""

    fingerprint: str
    """SHA-256 of the file."""
    stamp: Stamp
    table: NDArray[np.int64]  # [N, 5], as in a Dataset
    images: ImageTable
    bad: tuple[BadRecord, ...]
    """Rows that are no records; not in the table."""
    misfits: tuple[BadRecord, ...]
    """Records that cannot become examples; in the table."""


def scan(file: Path, builder: ExampleBuilder | None, num_workers: int, report: Report) -> Scan:
    """Read and check all rows of a file; RecordError if it has none, or changes meanwhile."""
    with open_file(file) as stream:
        stamp = stamp_of(stream)
        results = _Results()
        jobs = _jobs(stream, file, results)
        num_workers = num_workers if stamp[0] > LARGE else 0
        with loader(RowCheck(file, stamp, builder), jobs, num_workers) as chunks:
            for end, checked in chunks:
                results.add(checked)
                report(end, stamp[0])
        stream.seek(0)
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
        if stamp_of(stream) != stamp:
            raise RecordError(f"{file}: changed while it was read", "Start again with the new file.")
    return results.scan(fingerprint, stamp)


def _jobs(stream: BufferedReader, file: Path, results: "_Results") -> Iterator[tuple[int, Places]]:
    """The places of each chunk of rows, with the end of the chunk in the file."""
    offsets, sizes = list[int](), list[int]()
    for row in rows(stream, file):
        if row.fault is not None:
            results.bad.append(BadRecord(row.number, row.line, str(row.fault), row.fault.advice))
            continue
        if offsets and (len(offsets) == CHUNK or row.offset + row.size - offsets[0] > CHUNK_BYTES):
            yield offsets[-1] + sizes[-1], (offsets, sizes)
            offsets, sizes = [], []
        results.rows.extend(row[:4])
        offsets.append(row.offset)
        sizes.append(row.size)
    if offsets:
        yield offsets[-1] + sizes[-1], (offsets, sizes)


@dataclass
class _Results:
    """The results so far."""

    rows: "array[int]" = field(default_factory=lambda: array("q"))  # number, line, offset, size
    bad: list[BadRecord] = field(default_factory=list)
    misfits: list[BadRecord] = field(default_factory=list)
    lengths: "array[int]" = field(default_factory=lambda: array("q"))  # 0 of a faulty row
    counts: "array[int]" = field(default_factory=lambda: array("i"))  # of images
    names: dict[str, int] = field(default_factory=dict)
    shown: "array[int]" = field(default_factory=lambda: array("i"))

    def add(self, checked: CheckedRows) -> None:
        """Add the next chunk."""
        self.bad += [self._bad_record(place, *reason) for place, reason in checked.faults.items()]
        self.misfits += [self._bad_record(place, *reason) for place, reason in checked.misfits.items()]
        self.lengths.extend(checked.lengths)
        self.counts.extend(checked.num_images)
        numbers = [self.names.setdefault(name, len(self.names)) for name in checked.names]
        self.shown.extend([numbers[place] for place in checked.shown])

    def _bad_record(self, place: int, problem: str, advice: str) -> BadRecord:
        row = 4 * (len(self.lengths) + place)
        return BadRecord(self.rows[row], self.rows[row + 1], problem, advice)

    def scan(self, fingerprint: str, stamp: Stamp) -> Scan:
        """The scan, once all chunks are added."""
        number, line, offset, size = np.array(self.rows, np.int64).reshape(-1, 4).T
        table = np.stack([offset, size, number, line, np.array(self.lengths, np.int64)], axis=1)
        bad = sorted(self.bad, key=lambda record: record.number)
        faulty = np.isin(number, [record.number for record in bad])
        images = ImageTable.of(self.names, np.array(self.shown, np.int32), np.array(self.counts, np.int32)[~faulty])
        return Scan(fingerprint, stamp, table[~faulty], images, tuple(bad), tuple(self.misfits))
