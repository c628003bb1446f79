"""Safetensors files written row by row: the header first, then bytes at their offsets.

Shapes and dtypes are known before any value, so nothing is buffered in memory.
"""

import json
import math
import os
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple, Self

import mlx.core as mx
import numpy as np

MAX_SHARD = 5 * 10**9  # bytes, as in mlx-lm and transformers

DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16, "U32": mx.uint32, "U8": mx.uint8}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Output(NamedTuple):
    """A tensor to be written."""

    name: str
    dtype: mx.Dtype
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one entry along the first axis."""
        return self.dtype.size * math.prod(self.shape[1:])

    @property
    def num_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return self.shape[0] * self.row_bytes


class Place(NamedTuple):
    """The bytes of a file that a tensor is written to."""

    output: Output
    file: int  # descriptor
    offset: int


class Writer:
    """Files for a list of tensors, whose rows are written in any order; leaving its `with` closes them."""

    def __init__(self, folder: Path, outputs: Iterable[Output], metadata: str = "mlx") -> None:
        self._metadata = {"format": metadata}
        self._places: dict[str, Place] = {}
        self._files = ExitStack()
        shards = _shards(outputs)
        numbers = range(1, len(shards) + 1)
        names = [f"model-{n:05d}-of-{len(shards):05d}.safetensors" for n in numbers]
        names = names if len(shards) > 1 else ["model.safetensors"]
        for name, shard in zip(names, shards, strict=True):
            self._open(folder / name, shard)
        if len(shards) > 1:
            weight_map = {o.name: name for name, shard in zip(names, shards, strict=True) for o in shard}
            size = sum(o.num_bytes for shard in shards for o in shard)
            index = {"metadata": {"total_size": size}, "weight_map": weight_map}
            (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")

    def write(self, name: str, start: int, rows: mx.array) -> None:
        """Write rows of a tensor, beginning with row `start`."""
        output, file, offset = self._places[name]
        if rows.dtype != output.dtype or rows.shape[1:] != output.shape[1:]:
            raise ValueError(f"{name}: {rows.dtype} {rows.shape} does not fit {output}")
        bits = rows.view(mx.uint16) if rows.dtype == mx.bfloat16 else rows
        _write(file, np.asarray(bits).data.cast("B"), offset + start * output.row_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _open(self, path: Path, outputs: list[Output]) -> None:
        """Create a file with its header and space for its tensors."""
        header: dict[str, object] = {"__metadata__": self._metadata}
        size = 0
        for o in outputs:
            offsets = [size, size + o.num_bytes]
            header[o.name] = {"dtype": DTYPE_NAMES[o.dtype], "shape": o.shape, "data_offsets": offsets}
            size += o.num_bytes
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % 8)
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        self._files.callback(os.close, file)
        _write(file, memoryview(len(text).to_bytes(8, "little") + text), 0)
        place = 8 + len(text)
        os.ftruncate(file, place + size)
        for o in outputs:
            self._places[o.name] = Place(o, file, place)
            place += o.num_bytes


def _write(file: int, data: memoryview, place: int) -> None:
    """All of the bytes; one call may take fewer."""
    while data:
        written = os.pwrite(file, data, place)
        data, place = data[written:], place + written


def _shards(outputs: Iterable[Output]) -> list[list[Output]]:
    shards: list[list[Output]] = [[]]
    size = 0
    for output in outputs:
        if shards[-1] and size + output.num_bytes > MAX_SHARD:
            shards.append([])
            size = 0
        shards[-1].append(output)
        size += output.num_bytes
    return shards
