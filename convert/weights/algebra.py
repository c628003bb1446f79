"""Where the rows of a weight come from: a file, memory, or a computation on other weights.

Every weight gives a few rows at a time, so that no conversion holds a whole model in memory.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from mlx_llava.checkpoint.quantization import Quantization
from mlx_llava.checkpoint.reader import Reader
from mlx_llava.checkpoint.safetensors import Tensor
from mlx_llava.convert.torch_bin import archive


class Weight(Protocol):
    """A weight that can be read row by row; `where` names its file and tensor in errors."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def where(self) -> str: ...

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        ...


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a file, unchanged."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return self.tensor.shape

    @property
    def where(self) -> str:
        return f"{self.tensor.file}: {self.tensor.name}"

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        array = mx.array(archive.rows(reader, self.tensor, start, stop))
        return array.view(mx.bfloat16) if self.tensor.dtype == "BF16" else array


@dataclass(frozen=True)
class InMemory:
    """An array."""

    where: str
    array: mx.array

    @property
    def shape(self) -> tuple[int, ...]:
        return self.array.shape

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        return self.array[start:stop]


@dataclass(frozen=True)
class Derived:
    """A weight computed from `base`; it has the shape and the origin of `base` unless a subclass changes them."""

    base: Weight

    @property
    def shape(self) -> tuple[int, ...]:
        return self.base.shape

    @property
    def where(self) -> str:
        return self.base.where


@dataclass(frozen=True)
class Dequantized(Derived):
    """A quantized weight in float32."""

    scales: Weight
    biases: Weight | None
    quantization: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        rows, words = self.base.shape
        return rows, words * 32 // self.quantization.bits

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        weight, scales = (part.rows(reader, start, stop) for part in (self.base, self.scales))
        biases = self.biases.rows(reader, start, stop) if self.biases else None
        return mx.dequantize(weight, scales, biases, **vars(self.quantization), dtype=mx.float32)


@dataclass(frozen=True)
class Transposed(Derived):
    """A weight with its axes in another order; the first stays first."""

    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.base.shape[axis] for axis in self.axes)

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        return mx.contiguous(self.base.rows(reader, start, stop).transpose(self.axes))


@dataclass(frozen=True)
class Extended(Derived):
    """A table with more rows than `base`; each new row is the mean of the old ones."""

    num_rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.num_rows, *self.base.shape[1:])

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        old = self.base.shape[0]
        if stop <= old:
            return self.base.rows(reader, start, stop)
        first = self.base.rows(reader, min(start, old), old)
        new = mx.broadcast_to(self._mean(reader), (stop - max(start, old), *self.shape[1:]))
        return mx.concatenate([first, new.astype(first.dtype)])

    def _mean(self, reader: Reader) -> mx.array:
        total = mx.zeros(self.base.shape[1:])
        for start, stop in pieces(self.base, 2**24):
            total = total + self.base.rows(reader, start, stop).astype(mx.float32).sum(axis=0)
            mx.eval(total)
        return total / self.base.shape[0]


def pieces(weight: Weight, num_bytes: int) -> list[tuple[int, int]]:
    """The rows of a weight in runs of at most `num_bytes` in float32, at least one row each."""
    rows, *inner = weight.shape
    step = max(1, num_bytes // max(1, 4 * math.prod(inner)))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
