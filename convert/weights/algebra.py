"""Where the rows of a weight come from: a file as it stands, packed ones, an adapter added, or memory.

Whatever it is, some rows at a time can be asked of it, so that no conversion holds a whole model.
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
    """A weight that can be read row by row."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    @property
    def where(self) -> str:
        """Where it comes from, for errors."""
        ...

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        ...


@dataclass(frozen=True)
class Stored:
    """A tensor of a file, as it stands."""

    tensor: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.tensor.shape

    @property
    def where(self) -> str:
        """Its file and name."""
        return f"{self.tensor.file}: {self.tensor.name}"

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        array = mx.array(archive.rows(reader, self.tensor, start, stop))
        return array.view(mx.bfloat16) if self.tensor.dtype == "BF16" else array


@dataclass(frozen=True)
class Held:
    """A weight in memory."""

    where: str
    array: mx.array

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.array.shape

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        return self.array[start:stop]


@dataclass(frozen=True)
class Packed:
    """A packed weight, unpacked to float32."""

    weight: Weight
    scales: Weight
    biases: Weight | None
    packing: Quantization

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that it had before it was packed."""
        rows, words = self.weight.shape
        return rows, words * 32 // self.packing.bits

    @property
    def where(self) -> str:
        """Where the packed bits come from."""
        return self.weight.where

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        weight, scales = (part.rows(reader, start, stop) for part in (self.weight, self.scales))
        biases = self.biases.rows(reader, start, stop) if self.biases else None
        return mx.dequantize(weight, scales, biases, **vars(self.packing), dtype=mx.float32)


@dataclass(frozen=True)
class Delta:
    """What an adapter adds to a weight `[out, in]`: scale · (A B)ᵀ, of A `[in, rank]` and B `[rank, out]`."""

    a: Weight
    b: Weight
    scale: float
    upright: bool = True
    """False where the file has the transposes, as PEFT writes them."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight that it belongs to."""
        a, b = (self.a.shape, self.b.shape) if self.upright else (self.a.shape[::-1], self.b.shape[::-1])
        return b[1], a[0]

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop) in float32."""
        a, b = (part.rows(reader, 0, part.shape[0]).astype(mx.float32) for part in (self.a, self.b))
        a, b = (a, b) if self.upright else (a.T, b.T)
        return self.scale * (a @ b[:, start:stop]).T


@dataclass(frozen=True)
class Adapted:
    """A weight and its adapter, summed in float32."""

    base: Weight
    delta: Delta

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight below."""
        return self.base.shape

    @property
    def where(self) -> str:
        """Both places."""
        return f"{self.base.where} with {self.delta.a.where}"

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        return self.base.rows(reader, start, stop).astype(mx.float32) + self.delta.rows(reader, start, stop)


@dataclass(frozen=True)
class Turned:
    """A weight whose axes stand in another order; the first stays the first."""

    base: Weight
    axes: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape after turning."""
        return tuple(self.base.shape[axis] for axis in self.axes)

    @property
    def where(self) -> str:
        """Where the weight below comes from."""
        return self.base.where

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        return mx.contiguous(self.base.rows(reader, start, stop).transpose(self.axes))


@dataclass(frozen=True)
class Grown:
    """A table with more rows, each of them the mean of those it had."""

    base: Weight
    num_rows: int

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape with the new rows."""
        return (self.num_rows, *self.base.shape[1:])

    @property
    def where(self) -> str:
        """Where the weight below comes from."""
        return self.base.where

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop)."""
        old = self.base.shape[0]
        if stop <= old:
            return self.base.rows(reader, start, stop)
        kept = self.base.rows(reader, min(start, old), old)
        new = mx.broadcast_to(self._mean(reader), (stop - max(start, old), *self.shape[1:]))
        return mx.concatenate([kept, new.astype(kept.dtype)])

    def _mean(self, reader: Reader) -> mx.array:
        total = mx.zeros(self.base.shape[1:])
        for start, stop in pieces(self.base, 2**24):
            total = total + self.base.rows(reader, start, stop).astype(mx.float32).sum(axis=0)
            mx.eval(total)
        return total / self.base.shape[0]


def pieces(weight: Weight, num_bytes: int) -> list[tuple[int, int]]:
    """The rows of a weight in runs of at most `num_bytes` in float32, but of one row at least."""
    rows, *inner = weight.shape
    step = max(1, num_bytes // max(1, 4 * math.prod(inner)))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
