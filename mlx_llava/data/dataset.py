"""The records of a file, read again from their offsets when needed.

Memory holds 40 bytes per record, so a million records leave it to the model and are quick to send to a worker.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.data.bad_records import BadRecord
from mlx_llava.data.image_table import ImageTable
from mlx_llava.data.json_rows import parse
from mlx_llava.data.records import Record, record_of
from mlx_llava.data.source import Stamp, open_file


@dataclass(frozen=True, eq=False)
class Dataset:
    """The records of one file."""

    file: Path
    fingerprint: str
    """SHA-256 of the file, to notice a change between runs."""
    stamp: Stamp
    """Of the file, to notice a change during a run."""
    table: NDArray[np.int64]  # [N, 5]: byte offset, byte size, record number, line, length
    images: ImageTable
    left_out: tuple[BadRecord, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Record:
        return next(self.records([range(len(self))[index]]))

    def __iter__(self) -> Iterator[Record]:
        return self.records(range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of every record, as from Record.length."""
        return self.table[:, 4]

    def number(self, index: int) -> int:
        """The number of a record in its file."""
        return int(self.table[index, 2])

    def records(self, indices: Iterable[int]) -> Iterator[Record]:
        """The records at these indices, in this order."""
        with open_file(self.file, self.stamp) as file:
            for index in indices:
                offset, size, number, line, _ = self.table[index].tolist()
                file.seek(offset)
                yield record_of(parse(file.read(size)), number, f"{self.file}: record {number}, line {line}")

    def bad_record(self, index: int, problem: str, advice: str = "") -> BadRecord:
        """The record at this index as a bad one."""
        _, _, number, line, _ = self.table[index].tolist()
        return BadRecord(number, line, problem, advice)

    def indices(self, bad: Iterable[BadRecord]) -> dict[int, BadRecord]:
        """Those of the bad records that are in the dataset, by their indices."""
        by_number = {record.number: record for record in bad}
        places = np.flatnonzero(np.isin(self.table[:, 2], [*by_number]))
        return {index: by_number[self.number(index)] for index in places.tolist()}

    def without(self, bad: dict[int, BadRecord]) -> "Dataset":
        """The dataset without the bad records, given by their indices."""
        table = np.delete(self.table, list(bad), axis=0)
        left_out = sorted((*self.left_out, *bad.values()), key=lambda record: record.number)
        return replace(self, table=table, images=self.images.without(bad), left_out=tuple(left_out))
