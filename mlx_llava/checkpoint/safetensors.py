"""Safetensors files as facts: which tensor lies where, and the bytes of its rows.

Believes nothing a file says: its whole header is checked before anyone else sees the file, and what does not
fit is a CheckpointError. Opens files for reading only. Knows nothing of MLX or of models.
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np

from mlx_llava.errors import CheckpointError

# The dtypes and the limit of the header: github.com/huggingface/safetensors, safetensors/src/tensor.rs
DTYPES = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # its bits: NumPy has no bfloat16
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "F32": np.dtype("<f4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F64": np.dtype("<f8"),
}
MAX_HEADER = 100_000_000  # bytes
MAX_PARTS = 2_000_000  # brackets and commas of a header, for 200,000 tensors: bounds the parser's memory
MAX_DIMS = 8  # the weight of a Conv3d has 5
MAX_COUNT = 2**63 - 1  # largest file offset, and most bytes in a NumPy array
PIECE = 1 << 20  # bytes per pread: macOS refuses 2 GiB, and larger pieces are not faster

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# An index names a shard by a plain file name: no folder, no `..`. The file may be a link to anywhere, for the
# Hugging Face cache is made of links to ../../blobs; what it leads to is only read, and only as safetensors.
SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.safetensors")


class Stamp(NamedTuple):
    """What tells that a file is still the one whose header was read."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies: `dtype` in safetensors spelling, `offset` in bytes from the start of `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    stamp: Stamp = field(repr=False)

    @property
    def num_bytes(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def num_rows(self) -> int:
        """Length of the first axis; a 0-d tensor is one row."""
        return self.shape[0] if self.shape else 1


def read_header(file: Path) -> dict[str, Tensor]:
    """All tensors of one file, in the order of its header; raises CheckpointError if anything is off."""
    where = _spell(file)
    with _opened(file) as (descriptor, stamp):
        start, header = _header(descriptor, stamp.size, where)
    entries = _parse(header, f"{where}: the header")
    metadata = entries.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # null is what mx.save_safetensors writes
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(f"{where}: __metadata__ is not a map of strings to strings")
    tensors = {}
    for name, entry in entries.items():
        dtype, shape, begin = _check_entry(entry, f"{where}: tensor '{_short(name)}'")
        tensors[name] = Tensor(name, dtype, shape, file, start + begin, stamp)
    _check_layout(tensors.values(), start, stamp.size, where)
    return tensors


def read_index(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint folder: of its one file, or of exactly the shards that its index names."""
    try:
        files = {entry.name for entry in folder.iterdir()}
    except OSError as error:
        raise CheckpointError(f"{_spell(folder)}: {error.strerror}", "Name a folder that can be read.") from None
    if INDEX in files:
        shard_of = _weight_map(folder / INDEX)
        if SINGLE in files and SINGLE not in shard_of.values():
            raise CheckpointError(f"{_spell(folder / INDEX)} does not name {SINGLE}", "Remove the stale one.")
        return _read_shards(folder, files, shard_of)
    if SINGLE in files:
        return read_header(folder / SINGLE)
    if any(re.fullmatch(r"model-.*\.safetensors", name) for name in files):
        raise _damaged(f"{_spell(folder)}: {INDEX} is missing, perhaps an incomplete download")
    if any(name.endswith(".bin") for name in files):
        raise CheckpointError(
            f"{_spell(folder)} holds PyTorch files (.bin), but neither safetensors nor a whole pytorch_model",
            "mlx-llava convert reads pytorch_model.bin, or its shards with their index; save others as safetensors.",
        )
    raise CheckpointError(f"{_spell(folder)}: no {SINGLE}, no {INDEX}", "Name the folder of a checkpoint.")


def check_unchanged(tensors: Iterable[Tensor]) -> None:
    """Raise CheckpointError if a file of these tensors was rewritten, replaced or removed since its header was read."""
    for file, stamp in {tensor.file: tensor.stamp for tensor in tensors}.items():
        try:
            unchanged = _stamp(file.stat()) == stamp
        except OSError:
            unchanged = False
        if not unchanged:
            raise _changed(_spell(file))


class Reader:
    """Reads rows, through one read-only descriptor per file; leaving its `with` checks and closes them."""

    def __init__(self) -> None:
        self._files: dict[Path, tuple[int, Stamp]] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._stack:
            if kind is None:
                self.check()
        self._files.clear()

    def rows(self, tensor: Tensor, start: int = 0, stop: int | None = None) -> np.ndarray[Any, Any]:
        """Rows [start, stop), fresh: [stop - start, *shape[1:]], or [] of a 0-d tensor; bf16 as uint16 bits.

        Raises CheckpointError if the file is no longer the one whose header was read.
        """
        stop = tensor.num_rows if stop is None else stop
        if not 0 <= start <= stop <= tensor.num_rows or (start == stop and not tensor.shape):
            raise IndexError(f"rows {start} to {stop} of a tensor of shape {tensor.shape}")
        if tensor.file not in self._files:
            self._files[tensor.file] = self._stack.enter_context(_opened(tensor.file))
        descriptor, stamp = self._files[tensor.file]
        if stamp != tensor.stamp:
            raise _changed(_spell(tensor.file))
        row = tensor.num_bytes // max(tensor.num_rows, 1)
        data = _read(descriptor, (stop - start) * row, tensor.offset + start * row, _spell(tensor.file))
        shape = (stop - start, *tensor.shape[1:]) if tensor.shape else ()
        return np.ndarray(shape, DTYPES[tensor.dtype], data)

    def check(self) -> None:
        """Raise CheckpointError if a file read so far was rewritten, replaced or removed."""
        for file, (descriptor, stamp) in self._files.items():
            try:
                unchanged = _stamp(os.fstat(descriptor)) == stamp == _stamp(file.stat())
            except OSError:
                unchanged = False
            if not unchanged:
                raise _changed(_spell(file))


@contextmanager
def _opened(file: Path) -> Iterator[tuple[int, Stamp]]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK)  # or a FIFO would wait for its writer
    except OSError as error:
        raise CheckpointError(f"{_spell(file)}: {error.strerror}", "Name a file that can be read.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _damaged(f"{_spell(file)} is not a regular file")
        yield descriptor, _stamp(status)
    finally:
        os.close(descriptor)


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read(descriptor: int, count: int, offset: int, where: str) -> bytearray:
    """Exactly `count` bytes; by pread, not mmap, so that a file that shrinks is an error and not a SIGBUS."""
    data = bytearray(count)
    done = 0
    while done < count:
        try:
            piece = os.pread(descriptor, min(count - done, PIECE), offset + done)
        except OSError as error:
            raise _damaged(f"{where} cannot be read: {error.strerror}") from None
        if not piece:
            raise _changed(where)
        data[done : done + len(piece)] = piece
        done += len(piece)
    return data


def _header(descriptor: int, size: int, where: str) -> tuple[int, bytearray]:
    """Where the tensors' bytes start, and the header's JSON."""
    if size < 8:
        raise _damaged(f"{where} has only {size} bytes, perhaps an incomplete download")
    length = int.from_bytes(_read(descriptor, 8, 0, where), "little")
    if length > MAX_HEADER:
        raise _damaged(f"{where} is not a safetensors file, perhaps a Git LFS pointer or a web page")
    if length > size - 8:
        raise _damaged(f"{where} ends within its header, perhaps an incomplete download")
    header = _read(descriptor, length, 8, where)
    if not header.startswith(b"{"):
        raise _damaged(f"{where}: the header does not start with {{")
    return 8 + length, header


def _parse(text: bytearray, where: str) -> dict[str, Any]:
    """A JSON object in which no name stands twice and every whole number is a count or -1."""
    if sum(text.count(mark) for mark in b"{[,") > MAX_PARTS:
        raise _damaged(f"{where} has more than {MAX_PARTS} brackets and commas")
    try:
        found = json.loads(text.decode(), object_pairs_hook=_object, parse_int=_count)
    except RecursionError:
        raise _damaged(f"{where} is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, or refused by _object
        raise _damaged(f"{where} is not valid: {error}") from None
    if not isinstance(found, dict):
        raise _damaged(f"{where} is not a JSON object")
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = {}
    for name, value in pairs:
        if name in table:
            raise ValueError(f"'{_short(name)}' stands twice")
        name.encode()  # ValueError for half a surrogate pair
        if isinstance(value, str):
            value.encode()
        table[name] = value
    return table


def _count(digits: str) -> int:
    """The number, or -1 for what cannot be a count: -0 as well, and more digits than MAX_COUNT has."""
    return -1 if digits[0] == "-" or len(digits) > 19 else int(digits)


def _are_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(n) is int and 0 <= n <= MAX_COUNT for n in values)


def _check_entry(entry: object, where: str) -> tuple[str, tuple[int, ...], int]:
    """dtype, shape and first byte (counted from the header's end) of a tensor that fits its bytes."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _damaged(f"{where} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise _damaged(f"{where}: its dtype is not a string")
    if dtype not in DTYPES:
        raise CheckpointError(f"{where}: dtype {_short(dtype)} is not supported", "Use F16, BF16 or F32 weights.")
    if not _are_counts(shape) or len(shape) > MAX_DIMS:
        raise _damaged(f"{where}: its shape is not a list of at most {MAX_DIMS} counts")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise _damaged(f"{where}: its data_offsets are not a begin and an end")
    size = DTYPES[dtype].itemsize
    if math.prod(max(n, 1) for n in shape) * size > MAX_COUNT:  # also beside a 0, as NumPy and safetensors do
        raise _damaged(f"{where}: its shape {shape} is too large for any file")
    needed, given = math.prod(shape) * size, offsets[1] - offsets[0]
    if needed != given:
        raise _damaged(f"{where}: {dtype} of shape {shape} needs {needed} bytes, the file gives it {given}")
    return dtype, tuple(shape), offsets[0]


def _check_layout(tensors: Iterable[Tensor], start: int, size: int, where: str) -> None:
    """One tensor after the other, from the header's end to the end of the file."""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        this = f"{where}: tensor '{_short(tensor.name)}'"
        if tensor.offset < start:
            raise _damaged(f"{this} overlaps another")
        if tensor.offset > start:
            raise _damaged(f"{this} comes after a hole of {tensor.offset - start} bytes")
        start += tensor.num_bytes
        if start > size:
            raise _damaged(f"{this} ends at byte {start} of {size}, perhaps an incomplete download")
    if start < size:
        raise _damaged(f"{where} has {size - start} bytes after its last tensor")


def _weight_map(file: Path) -> dict[str, str]:
    """Tensor name to shard, from an index that gives every shard a plain file name."""
    where = _spell(file)
    with _opened(file) as (descriptor, stamp):
        if stamp.size > MAX_HEADER:
            raise _damaged(f"{where} is larger than {MAX_HEADER} bytes")
        text = _read(descriptor, stamp.size, 0, where)
    shard_of = _parse(text, where).get("weight_map")
    if not isinstance(shard_of, dict) or not shard_of:
        raise _damaged(f"{where}: weight_map is not a map of tensors to files")
    for name, shard in shard_of.items():
        if not isinstance(shard, str) or not SHARD.fullmatch(shard):
            raise _damaged(f"{where}: tensor '{_short(name)}' is not in a plainly named .safetensors file")
    return shard_of


def _read_shards(folder: Path, files: set[str], shard_of: dict[str, str]) -> dict[str, Tensor]:
    tensors = {}
    for shard in sorted(set(shard_of.values())):
        if shard not in files:
            raise _damaged(f"{_spell(folder)}: {shard} is missing, perhaps an incomplete download")
        for name, tensor in read_header(folder / shard).items():
            if (told := shard_of.get(name, "no file")) != shard:
                raise _damaged(f"{_spell(tensor.file)} holds tensor '{_short(name)}', which the index puts in {told}")
            tensors[name] = tensor
    for name, shard in shard_of.items():
        if name not in tensors:
            raise _damaged(f"{_spell(folder / shard)} lacks tensor '{_short(name)}', which the index puts there")
    return tensors


def _damaged(problem: str) -> CheckpointError:
    return CheckpointError(problem, "Download or convert the checkpoint again.")


def _changed(where: str) -> CheckpointError:
    return CheckpointError(f"{where} changed while it was read", "Start again when nothing writes to it.")


def _short(text: str) -> str:
    """At most 80 characters on one line; repr escapes control, bidi and other invisible characters."""
    shown = repr(text[:81])[1:-1]
    return shown if len(shown) <= 80 else f"{shown[:77]}..."


def _spell(path: Path) -> str:
    return repr(str(path))[1:-1]
