"""All records of a file: checked once, then read again from their places as they are needed.

In memory stand 40 bytes a record, so a million of them leave it to the model, and a worker gets its own copy at once.
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

SHOWN = 10  # of the faults that are told at once
_ADVICE = "Name a JSON or JSON-lines file, or a folder with {split}.jsonl."
COLUMNS = 5  # of a table: start and size in the file, number, line, length


@dataclass(frozen=True, eq=False)
class Dataset:
    """The records of one file."""

    file: Path
    fingerprint: str
    """SHA-256 of the file, for a run that goes on later."""
    state: tuple[int, int]
    """Size and time of the file, for a run that goes on now."""
    table: NDArray[np.int64]  # [N, COLUMNS]
    left_out: tuple[str, ...] = ()
    """What was wrong with the records that are not here."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Record:
        return next(self.records([range(len(self))[index]]))

    def __iter__(self) -> Iterator[Record]:
        return self.records(range(len(self)))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The length of every record, as Record.length has it."""
        return self.table[:, 4]

    def number(self, index: int) -> int:
        """The number in its file of a record."""
        return int(self.table[index, 2])

    def records(self, indices: Iterable[int]) -> Iterator[Record]:
        """Some records, in the order asked for."""
        with _open(self.file) as file:
            if _state(file) != self.state:
                raise RecordError(f"{self.file}: changed since it was checked", "Start again with the new file.")
            for index in indices:
                start, size, number, line, _ = self.table[index].tolist()
                file.seek(start)
                yield record_of(parse(file.read(size)), number, _where(self.file, number, line))

    def without(self, faults: dict[int, str]) -> "Dataset":
        """The others, once it is known what is wrong with the records of these indices."""
        kept = np.delete(self.table, list(faults), axis=0)
        return replace(self, table=kept, left_out=(*self.left_out, *faults.values()))


def read(path: Path, images: Path | None, split: str = "train", skip_bad: bool = False) -> Dataset:
    """All records of a file, or of the split `train`, `valid` or `test` in a folder as mlx-lm has it.

    Args:
        images: the folder of the pictures; every one that a record names must be there.
        skip_bad: leave out the records with faults, and say so in `left_out`.

    Raises RecordError that names file, record, line and field of the first faults, and how many there are.
    """
    scanned, named = _scan(_file_of(path, split))
    dataset = scanned.without(_missing_images(scanned, named, images))
    if dataset.left_out and not skip_bad:
        raise refusal(dataset.left_out, "Mend these records, or leave them out: --leave-out in training.")
    if not len(dataset):
        raise RecordError(f"{dataset.file}: no records to train on", "Give at least one conversation.")
    return dataset


def _scan(file: Path) -> tuple[Dataset, dict[str, list[int]]]:
    """The records without faults, and which of them name each picture."""
    table, named, faults = array("q"), dict[str, list[int]](), list[str]()
    with _open(file) as stream:
        state = _state(stream)
        for row in rows(stream):
            try:
                record = record_of(row.value, row.number, "")
            except Fault as fault:
                faults.append(f"{_where(file, row.number, row.line)}: {fault}")
                continue
            for name in record.images:
                named.setdefault(name, []).append(len(table) // COLUMNS)
            table.extend((row.start, row.size, row.number, row.line, record.length()))
        stream.seek(0)
        fingerprint = hashlib.file_digest(stream, "sha256").hexdigest()
    cells = np.array(table, np.int64).reshape(-1, COLUMNS)
    return Dataset(file, fingerprint, state, cells, tuple(faults)), named


def refusal(faults: Sequence[str], advice: str) -> RecordError:
    """An error that shows the first faults and counts all."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return RecordError(f"{len(faults)} bad records: {'; '.join(faults[:SHOWN])}{more}", advice)


def _file_of(path: Path, split: str) -> Path:
    file = path / f"{split}.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise RecordError(f"{file}: no such file", _ADVICE.format(split=split))
    return file


def _open(file: Path) -> BufferedReader:
    try:
        return file.open("rb")
    except OSError as error:
        raise RecordError(f"{file}: {error.strerror}", "Check the path and its permissions.") from None


def _state(file: BufferedReader) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _where(file: Path, number: int, line: int) -> str:
    return f"{file}: record {number}, line {line}"


def _missing_images(dataset: Dataset, named: dict[str, list[int]], folder: Path | None) -> dict[int, str]:
    """What to say of the records whose pictures are not there, by their indices."""
    if named and folder is None:
        problem = f"{dataset.file}: {len(named)} pictures are named, and no folder of pictures"
        raise RecordError(problem, "Name it with --images.")
    faults = {}
    for name in _absent(named, folder or Path()):
        for index in named[name]:
            where = _where(dataset.file, *dataset.table[index, 2:4].tolist())
            faults[index] = f"{where}: image {name!r} is not in {folder}"
    return dict(sorted(faults.items()))


def _absent(names: Iterable[str], folder: Path) -> Iterator[str]:
    """Names without a file: folders are listed once each, as asking for every file takes minutes on a slow disk."""
    listed = dict[str, set[str]]()
    for name in names:
        parent, _, file = name.rpartition("/")
        if parent not in listed:
            listed[parent] = _listing(folder / parent)
        # a Mac's disk finds names that differ in case, and another spelling of the same folder is right too
        if file not in listed[parent] and not os.path.isfile(folder / name):  # noqa: PTH113 - bears any name
            yield name


def _listing(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries if entry.is_file()}
    except (OSError, ValueError):
        return set()
