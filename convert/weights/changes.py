"""What adapters do to a weight: add a product of two small matrices, rescale its rows, replace some of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import mlx.core as mx

from mlx_llava.checkpoint.reader import Reader
from mlx_llava.convert.weights.algebra import Derived, Weight


class Change(Protocol):
    """A change of one weight."""

    @property
    def parts(self) -> Iterator[Weight]:
        """The weights that it reads, apart from the base."""
        ...

    @property
    def form(self) -> str:
        """The shapes of the weights that it fits, for errors."""
        ...

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether it can be applied to a weight of this shape."""
        ...

    def applied(self, base: Weight) -> Weight:
        """The changed weight."""
        ...


@dataclass(frozen=True)
class LoraDelta:
    """What an adapter adds to a weight `[out, ...]`: scale · (A B)ᵀ, with A `[in, rank]` and B `[rank, out]`."""

    a: Weight
    b: Weight
    scale: float
    transposed: bool = False
    """The file holds Aᵀ and Bᵀ, as PEFT writes them; those of a convolution have its axes: `[rank, in, h, w]` and
    `[out, rank, 1, 1]`."""
    magnitude: Weight | None = None
    """The norms that the rows of the sum get (DoRA, arXiv 2402.09353, equation 5)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the weight it is added to."""
        if self.transposed:
            return self.b.shape[0], *self.a.shape[1:]
        return self.b.shape[1], self.a.shape[0]

    @property
    def parts(self) -> Iterator[Weight]:
        """A, B and the magnitude."""
        yield from (self.a, self.b)
        if self.magnitude is not None:
            yield self.magnitude

    @property
    def form(self) -> str:
        """The one shape that it fits."""
        return str(list(self.shape))

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a weight has its shape."""
        return shape == self.shape

    def applied(self, base: Weight) -> Weight:
        """The weight with the adapter, its rows rescaled if there is a magnitude."""
        added = WithAdapter(base, self)
        return added if self.magnitude is None else WithMagnitude(added, self.magnitude)

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        """Rows [start, stop) in float32."""
        a = self.a.rows(reader, 0, self.a.shape[0]).astype(mx.float32)
        if not self.transposed:
            b = self.b.rows(reader, 0, self.b.shape[0]).astype(mx.float32)
            return self.scale * (a @ b[:, start:stop]).T
        b = self.b.rows(reader, start, stop).astype(mx.float32).reshape(stop - start, -1)
        return self.scale * (b @ a.reshape(a.shape[0], -1)).reshape(stop - start, *self.shape[1:])


@dataclass(frozen=True)
class WithAdapter(Derived):
    """A weight and its adapter, added in float32."""

    delta: LoraDelta

    @property
    def where(self) -> str:
        return f"{self.base.where} with {self.delta.a.where}"

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        return self.base.rows(reader, start, stop).astype(mx.float32) + self.delta.rows(reader, start, stop)


@dataclass(frozen=True)
class WithMagnitude(Derived):
    """A weight whose rows have other norms; a convolution's are stored `[1, out, 1, 1]`."""

    magnitude: Weight

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        rows = self.base.rows(reader, start, stop)
        flat = rows.reshape(stop - start, -1)
        magnitude = self.magnitude.rows(reader, 0, self.magnitude.shape[0]).astype(mx.float32).reshape(-1, 1)
        factor = magnitude[start:stop] / mx.linalg.norm(flat, axis=1, keepdims=True)
        return (factor * flat).reshape(rows.shape)


@dataclass(frozen=True)
class NewRows:
    """Rows of a table replaced: those of the tokens that were trained."""

    rows: Weight
    indices: tuple[int, ...]

    @property
    def parts(self) -> Iterator[Weight]:
        """The new rows."""
        yield self.rows

    @property
    def form(self) -> str:
        """The smallest table that it fits."""
        return f"[at least {max(self.indices) + 1}, {', '.join(map(str, self.rows.shape[1:]))}]"

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a table has these rows."""
        return shape[1:] == self.rows.shape[1:] and max(self.indices) < shape[0]

    def applied(self, base: Weight) -> Weight:
        """The table with the new rows."""
        return WithRows(base, self)


@dataclass(frozen=True)
class WithRows(Derived):
    """A table with some rows replaced."""

    new: NewRows

    def rows(self, reader: Reader, start: int, stop: int) -> mx.array:
        old = self.base.rows(reader, start, stop)
        new = self.new.rows.rows(reader, 0, len(self.new.indices)).astype(old.dtype)
        order = list(range(stop - start))
        for n, index in enumerate(self.new.indices):
            if start <= index < stop:
                order[index - start] = stop - start + n
        return mx.concatenate([old, new])[mx.array(order)]
