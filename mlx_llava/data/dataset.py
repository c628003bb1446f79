"""All records of a file: checked once, then read again from their offsets when needed.

Memory holds 40 bytes per record, so a million records leave it to the model and are quick to send to a worker.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.data.bad_records import BadRecord, refusal
from mlx_llava.data.image_files import image_faults
from mlx_llava.data.json_rows import Fault, parse, rows
from mlx_llava.data.records import Record, record_of
from mlx_llava.errors import RecordError, UsageError

COLUMNS = 5  # of the table: byte offset, byte size, record number, line, length


@dataclass(frozen=True, eq=False)
class Dataset:
    """The records of one file."""

    file: Path
    fingerprint: str
    """SHA-256 of the file, to notice a change between runs."""
    stamp: tuple[int, int]
    """Size and modification time of the file, to notice a change during a run."""
    table: NDArray[np.int64]  # [N, COLUMNS]
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
        with _open(self.file) as file:
            if _stamp(file) != self.stamp:
                raise RecordError(f"{self.file}: changed since it was checked", "Start again with the new file.")
            for index in indices:
                offset, size, number, line, _ = self.table[index].tolist()
                file.seek(offset)
                yield record_of(parse(file.read(size)), number, f"{self.file}: record {number}, line {line}")

    def bad_record(self, index: int, problem: str, advice: str = "") -> BadRecord:
        """The record at this index as a bad one."""
        _, _, number, line, _ = self.table[index].tolist()
        return BadRecord(number, line, problem, advice)

    def without(self, bad: dict[int, BadRecord]) -> "Dataset":
        """The dataset without the bad records, given by their indices."""
        table = np.delete(self.table, list(bad), axis=0)
        left_out = sorted((*self.left_out, *bad.values()), key=lambda record: record.number)
        return replace(self, table=table, left_out=tuple(left_out))


def read(path: Path, images: Path | None, split: str = "train", skip_bad: bool = False) -> Dataset:
    """Read and check all records of a file, or of a folder's split: `train`, `valid` or `test`, laid out as in mlx-lm.

    Args:
        images: the folder of the images; all that records name must exist.
        skip_bad: leave bad records out, and list them in `left_out`.

    Raises RecordError that names the bad records, their lines and fields; UsageError if the file or folder is missing.
    """
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file}: no such file", f"Name a JSON or JSON-lines file, or a folder with {split}.jsonl.")
    dataset, users = _scan(file)
    dataset = dataset.without(_bad_images(dataset, users, images))
    if dataset.left_out and not (skip_bad and len(dataset)):
        raise refusal(file, dataset.left_out, may_leave_out=len(dataset) > 0)
    if not len(dataset):
        raise RecordError(f"{file}: no records to train on", "Give at least one conversation.")
    return dataset


def _scan(file: Path) -> tuple[Dataset, dict[str, list[int]]]:
    """The records without faults, and for each image the indices of those that use it."""
    table, users, bad = array("q"), dict[str, list[int]](), list[BadRecord]()
    with _open(file) as stream:
        stamp = _stamp(stream)
        for row in rows(stream, file):
            try:
                record = record_of(row.value, row.number, "")
            except Fault as fault:
                bad.append(BadRecord(row.number, row.line, str(fault), fault.advice))
                continue
            for name in record.images:
                users.setdefault(name, []).append(len(table) // COLUMNS)
            table.extend((row.offset, row.size, row.number, row.line, record.length()))
        stream.seek(0)
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
    cells = np.array(table, np.int64).reshape(-1, COLUMNS)
    return Dataset(file, fingerprint, stamp, cells, tuple(bad)), users


def _bad_images(dataset: Dataset, users: dict[str, list[int]], folder: Path | None) -> dict[int, BadRecord]:
    """The records, by index, that name images which do not exist or lie outside the folder."""
    if users and folder is None:
        names = "an image" if len(users) == 1 else f"{len(users)} images"
        raise UsageError(f"{dataset.file}: names {names}, but no image folder is given", "Give --images.")
    if users and folder is not None and not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", "Give --images the folder that the image paths start from.")
    faults = image_faults(users, folder or Path())
    advice = "Check --images and the names of the images."
    return {index: dataset.bad_record(index, fault, advice) for name, fault in faults for index in users[name]}


def _open(file: Path) -> BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}", "Check the path and its permissions.") from None


def _stamp(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns
