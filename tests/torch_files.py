"""PyTorch's .bin files, written by hand: the tests of the reader need no torch, and no file of theirs is trusted."""

import io
import pickle
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

KINDS = {"<f4": "Float", "<f2": "Half", "<f8": "Double", "<i8": "Long", "|u1": "Byte", "|b1": "Bool"}
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": PROTOCOL, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}


class Strided(NamedTuple):
    """A tensor over a flat array."""

    storage: NDArray[Any]
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def strided(array: NDArray[Any]) -> Strided:
    """A tensor that lies in order."""
    size = array.itemsize
    flat = np.ascontiguousarray(array)
    return Strided(flat.reshape(-1), 0, array.shape, tuple(n // size for n in flat.strides))


def body(value: object) -> bytes:
    """The operations that make a plain value, without start and end."""
    return pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"")


def word(text: str) -> bytes:
    data = text.encode()
    return b"X" + len(data).to_bytes(4, "little") + data


def number(n: int) -> bytes:
    data = n.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(kind: str, key: str, count: int) -> bytes:
    """The persistent id of a storage."""
    inside = word("storage") + b"ctorch\n" + kind.encode() + b"Storage\n" + word(key) + word("cpu") + number(count)
    return b"(" + inside + b"tQ"


def tensor(tensor: Strided, key: str) -> bytes:
    """The operations that make one tensor."""
    kept = storage(KINDS[tensor.storage.dtype.str], key, tensor.storage.size)
    hooks = b"ccollections\nOrderedDict\n)R"
    place = number(tensor.offset) + numbers(tensor.shape) + numbers(tensor.strides)
    return REBUILD + b"(" + kept + place + b"\x89" + hooks + b"tR"


def table(items: Mapping[str, bytes]) -> bytes:
    """A pickle of a dict whose values are made by operations."""
    return b"\x80\x02}(" + b"".join(word(name) + value for name, value in items.items()) + b"u."


def zipped(pickled: bytes, storages: Mapping[str, bytes], **more: bytes) -> bytes:
    """The container since torch 1.6."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in {"data.pkl": pickled, "byteorder": b"little", **more}.items():
            archive.writestr(f"archive/{name}", data)
        for key, data in storages.items():
            archive.writestr(f"archive/data/{key}", data)
    return buffer.getvalue()


def as_zip(tensors: Mapping[str, Strided]) -> bytes:
    """A file of tensors."""
    pickled = table({name: tensor(t, str(n)) for n, (name, t) in enumerate(tensors.items())})
    return zipped(pickled, {str(n): t.storage.tobytes() for n, t in enumerate(tensors.values())})


def as_stream(tensors: Mapping[str, Strided]) -> bytes:
    """The same in the older form."""
    pickled = table({name: tensor(t, str(n)) for n, (name, t) in enumerate(tensors.items())})
    head = b"".join(pickle.dumps(value, 2) for value in (MAGIC, PROTOCOL, MACHINE))
    keys = pickle.dumps([str(n) for n in range(len(tensors))], 2)
    bodies = (t.storage.size.to_bytes(8, "little") + t.storage.tobytes() for t in tensors.values())
    return head + pickled + keys + b"".join(bodies)
