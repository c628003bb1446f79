"""All records of a file: checked once, then read again from their offsets when needed.

Memory holds 40 bytes per record, so a million records leave it to the model and are quick to send to a worker.
"""

import hashlib
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlx_llava.data.json_rows import Fault, parse, rows
from mlx_llava.data.records import Record, record_of
from mlx_llava.errors import RecordError

MAX_LISTED = 10  # faults that an error lists
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
    left_out: tuple[str, ...] = ()
    """The faults of the records that were left out."""

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
                yield record_of(parse(file.read(size)), number, _where(self.file, number, line))

    def without(self, faults: dict[int, str]) -> "Dataset":
        """The dataset without the records at these indices, which have these faults."""
        table = np.delete(self.table, list(faults), axis=0)
        return replace(self, table=table, left_out=(*self.left_out, *faults.values()))


def read(path: Path, images: Path | None, split: str = "train", skip_bad: bool = False) -> Dataset:
    """Read and check all records of a file, or of a folder's split: `train`, `valid` or `test`, laid out as in mlx-lm.

    Args:
        images: the folder of the images; all that records name must exist.
        skip_bad: leave out faulty records, and list their faults in `left_out`.

    Raises RecordError with the file, record, line and field of the first faults, and the number of all.
    """
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise RecordError(f"{file}: no such file", f"Name a JSON or JSON-lines file, or a folder with {split}.jsonl.")
    dataset, users = _scan(file)
    dataset = dataset.without(_missing_images(dataset, users, images))
    if dataset.left_out and not skip_bad:
        raise refusal(dataset.left_out, "Fix these records, or skip them: --leave-out in training.")
    if not len(dataset):
        raise RecordError(f"{dataset.file}: no records to train on", "Give at least one conversation.")
    return dataset


def _scan(file: Path) -> tuple[Dataset, dict[str, list[int]]]:
    """The records without faults, and for each image the indices of those that use it."""
    table, users, faults = array("q"), dict[str, list[int]](), list[str]()
    with _open(file) as stream:
        stamp = _stamp(stream)
        for row in rows(stream):
            try:
                record = record_of(row.value, row.number, "")
            except Fault as fault:
                faults.append(f"{_where(file, row.number, row.line)}: {fault}")
                continue
            for name in record.images:
                users.setdefault(name, []).append(len(table) // COLUMNS)
            table.extend((row.offset, row.size, row.number, row.line, record.length()))
        stream.seek(0)
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
    cells = np.array(table, np.int64).reshape(-1, COLUMNS)
    return Dataset(file, fingerprint, stamp, cells, tuple(faults)), users


def refusal(faults: Sequence[str], advice: str) -> RecordError:
    """An error that lists the first faults and counts all."""
    more = f"; and {len(faults) - MAX_LISTED} more" if len(faults) > MAX_LISTED else ""
    return RecordError(f"{len(faults)} bad records: {'; '.join(faults[:MAX_LISTED])}{more}", advice)


def _open(file: Path) -> BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}", "Check the path and its permissions.") from None


def _stamp(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _where(file: Path, number: int, line: int) -> str:
    return f"{file}: record {number}, line {line}"


def _missing_images(dataset: Dataset, users: dict[str, list[int]], folder: Path | None) -> dict[int, str]:
    """The faults, by index, of records whose images do not exist."""
    if users and folder is None:
        raise RecordError(f"{dataset.file}: names {len(users)} images, but no image folder is given", "Give --images.")
    faults = {}
    for name in _without_file(users, folder or Path()):
        for index in users[name]:
            where = _where(dataset.file, *dataset.table[index, 2:4].tolist())
            faults[index] = f"{where}: image {name!r} is not in {folder}"
    return dict(sorted(faults.items()))


def _without_file(names: Iterable[str], folder: Path) -> Iterator[str]:
    """Names without a file. Lists each folder once: checking every file takes minutes on a slow disk."""
    listings = dict[str, set[str]]()
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in listings:
            listings[parent] = _listing(folder / parent)
        # macOS ignores case, and a folder may be spelled in several ways
        if file not in listings[parent] and not os.path.isfile(folder / name):  # noqa: PTH113 - accepts any name
            yield name


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):
        return set()
