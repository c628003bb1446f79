"""The names a pickle of tensors may use, and what they stand for: counts and offsets, never an object of torch.

A table of our own replaces the functions that torch.save names; nothing else is looked up by name.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from mlx_llava.checkpoint.safetensors import DTYPES, MAX_COUNT, MAX_DIMS

MAX_GROWTH = 64 * 2**20  # bytes of a tensor that repeats its storage

# Storage types and their dtypes in safetensors.
STORAGES = {
    "FloatStorage": "F32",
    "HalfStorage": "F16",
    "BFloat16Storage": "BF16",
    "DoubleStorage": "F64",
    "LongStorage": "I64",
    "IntStorage": "I32",
    "ShortStorage": "I16",
    "CharStorage": "I8",
    "ByteStorage": "U8",
    "BoolStorage": "BOOL",
}


class Global(NamedTuple):
    """A name in a pickle, only a string."""

    name: str


class Storage(NamedTuple):
    """Numbers somewhere in the file."""

    dtype: str
    key: str
    length: int


class View(NamedTuple):
    """A tensor: offset, shape and strides within a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class RefusedError(Exception):
    """A pickle contains something that is not allowed."""


def storage_of(name: object) -> Storage:
    """The storage of a persistent id ("storage", type, key, device, count), in old files with a view, which is None."""
    if type(name) is not tuple or len(name) not in (5, 6) or name[0] != "storage" or name[5:] not in ((), (None,)):
        raise RefusedError("an id of something other than a storage")
    _, kind, key, _, count = name[:5]
    dtype = STORAGES.get(kind.name.removeprefix("torch ")) if type(kind) is Global else None
    if dtype is None or type(key) is not str or not _is_count(count):
        raise RefusedError("a storage of a kind that is not read")
    return Storage(dtype, key, count)


def _tensor(storage: object, offset: object, shape: object, strides: object, *_: object) -> View:
    """torch._utils._rebuild_tensor_v2; requires_grad does not matter."""
    if type(storage) is not Storage or not _is_count(offset) or not _are_counts(shape) or not _are_counts(strides):
        raise RefusedError("a tensor that is not described by counts")
    view = View(storage, offset, shape, strides)  # pyright: ignore
    if len(view.shape) != len(view.strides):
        raise RefusedError("a tensor with another number of strides than axes")
    size = DTYPES[storage.dtype].itemsize
    numbers = math.prod(view.shape)
    if math.prod(max(n, 1) for n in view.shape) * size > MAX_COUNT:
        raise RefusedError("a tensor that is too large for any file")
    last = sum((n - 1) * stride for n, stride in zip(view.shape, view.strides, strict=True))
    if numbers and view.offset + last >= storage.length:
        raise RefusedError("a tensor that reaches beyond its storage")
    if numbers * size > max(storage.length * size, MAX_GROWTH):
        raise RefusedError("a tensor that repeats its storage")
    return view


def _parameter(data: object, *_: object) -> View:
    if type(data) is not View:
        raise RefusedError("a parameter without a tensor")
    return data


def _table(*arguments: object) -> dict[Any, Any]:
    if arguments:
        raise RefusedError("a dict with arguments")
    return {}


def _size(counts: object) -> tuple[int, ...]:
    if type(counts) is not tuple:
        raise RefusedError("a size that is no tuple")
    return counts


CALLS: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": _table,
    "torch Size": _size,
    "torch._utils _rebuild_tensor": _tensor,
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": _parameter,
}
GLOBALS = {*CALLS, *(f"torch {name}" for name in STORAGES)}


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _are_counts(values: object) -> bool:
    return type(values) is tuple and len(values) <= MAX_DIMS and all(map(_is_count, values))


def kind_of(value: object) -> str:
    return value.name.replace(" ", ".") if isinstance(value, Global) else type(value).__name__
