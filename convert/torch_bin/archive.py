"""Tensors of PyTorch's .bin files: which one is at which bytes.

There are two containers: the zip of torch 1.6 and later, with uncompressed members, and the older stream of pickles
followed by storages. In both, numbers are read from their offset like those of a safetensors file. A tensor with
strides, such as a transposed one, is a `Strided`.
"""

import math
import re
import struct
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.regular_file import PIECE, Stamp, damaged, opened, spell
from mlx_llava.checkpoint.safetensors import DTYPES, Tensor
from mlx_llava.convert.torch_bin.allowed_calls import View
from mlx_llava.convert.torch_bin.pickles import read, refused

MAX_PICKLE = 64 * 2**20  # bytes; that of a 13B shard has 60 kB
MAX_MEMBERS, MAX_LIST = 200_000, 64 * 2**20  # and bytes of the list of them
# torch/serialization.py
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass(frozen=True)
class Strided(Tensor):
    """A tensor whose numbers are not contiguous; `offset` is that of the first one."""

    strides: tuple[int, ...]  # in numbers, not bytes


class Piece(NamedTuple):
    """The bytes of a storage, and its checksum in the container."""

    offset: int
    num_bytes: int
    checksum: int | None


def rows(reader: Reader, tensor: Tensor, start: int, stop: int) -> np.ndarray[Any, Any]:
    """Rows [start, stop) of a tensor of any kind, in the form of `Reader.rows`."""
    if not isinstance(tensor, Strided):
        return reader.rows(tensor, start, stop)
    shape = (stop - start, *tensor.shape[1:])
    count = 1 + sum((n - 1) * stride for n, stride in zip(shape, tensor.strides, strict=True))
    size = DTYPES[tensor.dtype].itemsize
    offset = tensor.offset + start * tensor.strides[0] * size
    numbers = reader.rows(Tensor(tensor.name, tensor.dtype, (count,), tensor.file, offset, tensor.stamp))
    strides = [stride * size for stride in tensor.strides]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(numbers, shape, strides))


def read_file(path: Path) -> dict[str, Tensor]:
    """All tensors of one file; CheckpointError if it is damaged or holds anything else."""
    where = spell(path)
    with opened(path) as (descriptor, stamp), open(descriptor, "rb", closefd=False) as file:
        views, pieces = _contents(file, stamp.size, where)
    if type(views) is not dict or not views:
        raise refused(where, f"holds a {type(views).__name__}, not a table of tensors")
    tensors = {}
    for name, view in views.items():
        if type(name) is not str or not name.isprintable():
            raise refused(where, f"a {type(name).__name__} as the name of a tensor")
        if type(view) is not View:
            raise refused(where, f"{name[:60]!r} is of kind {type(view).__name__}, not a tensor")
        tensors[name] = _place(name, view, pieces, path, stamp)
    return tensors


def check_sums(tensors: Iterable[Tensor]) -> None:
    """Read every .bin file of these tensors once; CheckpointError if bytes do not match their checksum."""
    for path in {tensor.file for tensor in tensors if tensor.file.suffix == ".bin"}:
        with path.open("rb") as file:
            if file.read(4) != b"PK\3\4":
                continue  # the old stream has no checksums
            for piece in _members(file, path.stat().st_size, spell(path)).values():
                if _checksum(file, piece) != piece.checksum:
                    raise damaged(f"{spell(path)}: bytes at {piece.offset} do not match their checksum")


def _contents(file: Any, size: int, where: str) -> tuple[Any, Mapping[str, Piece]]:
    """The value of the pickle, and the storages by key."""
    head = file.read(4)
    if head == b"PK\3\4":
        return _zipped(file, size, where)
    file.seek(0)
    start = file.read(MAX_PICKLE)
    if start[257:262] == b"ustar":
        raise refused(where, "a tar file, as torch wrote before 2017")
    if start[:1] != b"\x80":
        raise damaged(f"{where} is not a PyTorch file, perhaps a Git LFS pointer or a web page")
    return _streamed(BytesIO(start), file, size, where)


def _zipped(file: Any, size: int, where: str) -> tuple[Any, Mapping[str, Piece]]:
    members = _members(file, size, where)
    pickles = [name for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(pickles) != 1:
        raise refused(where, "a zip without one data.pkl")
    top = pickles[0].removesuffix("data.pkl")
    if any(name.startswith((f"{top}code/", f"{top}constants.pkl")) for name in members):
        raise refused(where, "a TorchScript program")
    if f"{top}byteorder" in members and _bytes(file, members[f"{top}byteorder"], where) != b"little":
        raise refused(where, "numbers in big-endian order")
    value = read(BytesIO(_bytes(file, members[pickles[0]], where)), where)
    data = f"{top}data/"
    return value, {name.removeprefix(data): piece for name, piece in members.items() if name.startswith(data)}


def _members(file: Any, size: int, where: str) -> dict[str, Piece]:
    """Every member of the zip: uncompressed, with the same name in both places, without overlaps."""
    try:
        if _list_size(file, size) > MAX_LIST:
            raise damaged(f"{where} names too many members")
        with zipfile.ZipFile(file) as archive:
            listed, end = archive.infolist(), archive.start_dir
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, struct.error, NotImplementedError, OverflowError):
        raise damaged(f"{where} is a damaged zip, perhaps an incomplete download") from None
    if len(listed) > MAX_MEMBERS or len({info.filename for info in listed}) != len(listed):
        raise damaged(f"{where} names a member twice, or too many")
    found, free = {}, 0
    if listed and min(info.header_offset for info in listed) != 0:
        raise damaged(f"{where} has something before its first member")
    for info in sorted(listed, key=lambda info: info.header_offset):
        stored = info.compress_type == zipfile.ZIP_STORED and info.compress_size == info.file_size
        if not stored or info.flag_bits & 1 or info.header_offset < free:
            raise damaged(f"{where}: member {info.filename[:60]!r} is compressed, encrypted or overlaps another")
        offset = _data_offset(file, info, where)
        free = offset + info.file_size
        if free > min(end, size):
            raise damaged(f"{where} ends within its members, perhaps an incomplete download")
        found[info.filename] = Piece(offset, info.file_size, info.CRC)
    return found


def _list_size(file: Any, size: int) -> int:
    """Bytes of the list of members, which zipfile reads whole, from the end of the file."""
    file.seek(max(0, size - 98))
    end = file.read(98).rjust(98, b"\0")  # zip64's record and locator, if any, and the end record
    if end[76:80] != b"PK\5\6" or end[96:] != b"\0\0":  # zipfile would search for an end further up
        raise zipfile.BadZipFile
    (short,), (wide,) = struct.unpack_from("<I", end, 88), struct.unpack_from("<Q", end, 40)
    return wide if end[56:60] == b"PK\6\7" else short


def _data_offset(file: Any, info: zipfile.ZipInfo, where: str) -> int:
    """Offset of a member's bytes, after its own header, which must have the same name."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\3\4":
        raise damaged(f"{where}: member {info.filename[:60]!r} is not at its offset")
    name, extra = struct.unpack("<HH", header[26:])
    if file.read(name) != info.orig_filename.encode("utf-8" if info.flag_bits & 0x800 else "cp437"):
        raise damaged(f"{where}: member {info.filename[:60]!r} has two names")
    return info.header_offset + 30 + name + extra


def _streamed(stream: BytesIO, file: Any, size: int, where: str) -> tuple[Any, Mapping[str, Piece]]:
    """The old stream: magic number, protocol, machine, tensors, storage keys; then count and bytes of each storage."""
    if read(stream, where) != MAGIC or read(stream, where) != PROTOCOL:
        raise refused(where, "a pickle that torch.save did not write")
    machine = read(stream, where)
    if type(machine) is not dict or machine.get("little_endian") is not True:
        raise refused(where, "numbers in big-endian order")
    value, keys = read(stream, where), read(stream, where)
    views = [view for view in value.values() if type(view) is View] if type(value) is dict else []
    sizes = {view.storage.key: (DTYPES[view.storage.dtype].itemsize, view.storage.length) for view in views}
    if type(keys) is not list or any(type(key) is not str or key not in sizes for key in keys):
        raise refused(where, "storages that no tensor uses")
    pieces, place = {}, stream.tell()
    for key in keys:
        file.seek(place)
        count = int.from_bytes(file.read(8), "little")
        if count != sizes[key][1] or key in pieces or place + 8 + count * sizes[key][0] > size:
            raise damaged(f"{where}: a storage has another size, or the file ends within it")
        pieces[key] = Piece(place + 8, count * sizes[key][0], None)
        place += 8 + pieces[key].num_bytes
    return value, pieces


def _place(name: str, view: View, pieces: Mapping[str, Piece], file: Path, stamp: Stamp) -> Tensor:
    storage, size = view.storage, DTYPES[view.storage.dtype].itemsize
    piece = pieces.get(storage.key)
    if piece is None or piece.num_bytes != storage.length * size:
        raise damaged(f"{spell(file)}: the storage of {name[:60]} is missing or has another size")
    tensor = Tensor(name, storage.dtype, view.shape, file, piece.offset + view.offset * size, stamp)
    if 0 in view.shape:
        return replace(tensor, offset=piece.offset)
    expected = [math.prod(view.shape[axis + 1 :]) for axis in range(len(view.shape))]
    if all(n == 1 or s == e for n, s, e in zip(view.shape, view.strides, expected, strict=True)):
        return tensor
    return Strided(**vars(tensor), strides=view.strides)


def _bytes(file: Any, piece: Piece, where: str) -> bytes:
    if piece.num_bytes > MAX_PICKLE:
        raise refused(where, f"a pickle of {piece.num_bytes} bytes")
    file.seek(piece.offset)
    data = file.read(piece.num_bytes)
    if zlib.crc32(data) != piece.checksum:
        raise damaged(f"{where}: the pickle does not match its checksum")
    return data


def _checksum(file: Any, piece: Piece) -> int:
    file.seek(piece.offset)
    value, left = 0, piece.num_bytes
    while left and (data := file.read(min(left, PIECE))):
        value, left = zlib.crc32(data, value), left - len(data)
    return value
