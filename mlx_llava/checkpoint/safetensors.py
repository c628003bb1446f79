"""Headers of safetensors files: which tensor is at which bytes.

Trusts nothing in a file: the whole header is checked before anything else uses it, and whatever does not fit is a
CheckpointError. Opens files for reading only. Knows neither MLX nor models.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np

from mlx_llava.checkpoint.regular_file import Stamp, damaged, opened, read_at, spell
from mlx_llava.checkpoint.strict_json import unique_keys
from mlx_llava.errors import CheckpointError
from mlx_llava.program.text import escape

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


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: `dtype` in safetensors spelling, `offset` in bytes from the start of `file`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int
    stamp: Stamp = field(repr=False)

    @property
    def num_bytes(self) -> int:
        return math.prod(self.shape) * DTYPES[self.dtype].itemsize

    @property
    def num_rows(self) -> int:
        """Length of the first axis; a 0-d tensor is one row."""
        return self.shape[0] if self.shape else 1


def read_header(file: Path) -> dict[str, Tensor]:
    """All tensors of one file, in the order of its header; raises CheckpointError if anything is off."""
    where = spell(file)
    with opened(file) as (descriptor, stamp):
        start, header = _header(descriptor, stamp.size, where)
    entries = parse_json(header, f"{where}: the header")
    metadata = entries.pop("__metadata__", None)
    metadata = {} if metadata is None else metadata  # null is what mx.save_safetensors writes
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(f"{where}: __metadata__ is not a map of strings to strings")
    tensors = {}
    for name, entry in entries.items():
        dtype, shape, begin = _check_entry(entry, f"{where}: tensor '{escape(name)}'")
        tensors[name] = Tensor(name, dtype, shape, file, start + begin, stamp)
    _check_layout(tensors.values(), start, stamp.size, where)
    return tensors


def _header(descriptor: int, size: int, where: str) -> tuple[int, bytearray]:
    """Offset of the first tensor byte, and the header's JSON."""
    if size < 8:
        raise damaged(f"{where} has only {size} bytes, perhaps an incomplete download")
    length = int.from_bytes(read_at(descriptor, 8, 0, where), "little")
    if length > MAX_HEADER:
        raise damaged(f"{where} is not a safetensors file, perhaps a Git LFS pointer or a web page")
    if length > size - 8:
        raise damaged(f"{where} ends within its header, perhaps an incomplete download")
    header = read_at(descriptor, length, 8, where)
    if not header.startswith(b"{"):
        raise damaged(f"{where}: the header does not start with {{")
    return 8 + length, header


def parse_json(text: bytearray, where: str) -> dict[str, Any]:
    """A JSON object without duplicate names, in which every whole number is a count or -1."""
    if sum(text.count(mark) for mark in b"{[,") > MAX_PARTS:
        raise damaged(f"{where} has more than {MAX_PARTS} brackets and commas")
    try:
        values = json.loads(text.decode(), object_pairs_hook=unique_keys, parse_int=_count)
    except RecursionError:
        raise damaged(f"{where} is nested too deeply") from None
    except ValueError as error:  # not UTF-8, not JSON, or refused by unique_keys
        raise damaged(f"{where} is not valid: {error}") from None
    if not isinstance(values, dict):
        raise damaged(f"{where} is not a JSON object")
    return values


def _count(digits: str) -> int:
    """The number, or -1 if it cannot be a count: -0 as well, and more digits than MAX_COUNT has."""
    return -1 if digits[0] == "-" or len(digits) > 19 else int(digits)


def _are_counts(values: object) -> TypeGuard[list[int]]:
    return isinstance(values, list) and all(type(n) is int and 0 <= n <= MAX_COUNT for n in values)


def _check_entry(entry: object, where: str) -> tuple[str, tuple[int, ...], int]:
    """dtype, shape and first byte (counted from the header's end) of a tensor that fits its bytes."""
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise damaged(f"{where} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str):
        raise damaged(f"{where}: its dtype is not a string")
    if dtype not in DTYPES:
        raise CheckpointError(f"{where}: dtype {escape(dtype)} is not supported", "Use F16, BF16 or F32 weights.")
    if not _are_counts(shape) or len(shape) > MAX_DIMS:
        raise damaged(f"{where}: its shape is not a list of at most {MAX_DIMS} counts")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise damaged(f"{where}: its data_offsets are not a begin and an end")
    size = DTYPES[dtype].itemsize
    if math.prod(max(n, 1) for n in shape) * size > MAX_COUNT:  # also beside a 0, as NumPy and safetensors do
        raise damaged(f"{where}: its shape {shape} is too large for any file")
    needed, available = math.prod(shape) * size, offsets[1] - offsets[0]
    if needed != available:
        raise damaged(f"{where}: {dtype} of shape {shape} needs {needed} bytes, the file has {available} for it")
    return dtype, tuple(shape), offsets[0]


def _check_layout(tensors: Iterable[Tensor], start: int, size: int, where: str) -> None:
    """Raise CheckpointError unless the tensors fill the file from `start` to its end, without holes or overlaps."""
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        this = f"{where}: tensor '{escape(tensor.name)}'"
        if tensor.offset < start:
            raise damaged(f"{this} overlaps another")
        if tensor.offset > start:
            raise damaged(f"{this} follows a gap of {tensor.offset - start} bytes")
        start += tensor.num_bytes
        if start > size:
            raise damaged(f"{this} ends at byte {start} of {size}, perhaps an incomplete download")
    if start < size:
        raise damaged(f"{where} has {size - start} bytes after its last tensor")
