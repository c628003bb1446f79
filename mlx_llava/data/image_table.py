"""Which images the records of a dataset show: every name once, and numbers for the rest.

Bytes and arrays rather than strings, so that a million names take 20 MB and reach a worker quickly.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class ImageTable:
    """The images of N records."""

    text: NDArray[np.uint8]
    """All names in UTF-8, one after the other."""
    name_ends: NDArray[np.int64]
    """Where each name ends."""
    shown: NDArray[np.int32]
    """The number of the name of every image of every record."""
    counts: NDArray[np.int32]  # [N]
    """How many images each record shows."""

    @classmethod
    def of(cls, names: Iterable[str], shown: NDArray[np.int32], counts: NDArray[np.int32]) -> "ImageTable":
        """A table of these names."""
        encoded = [name.encode("utf-8", "surrogatepass") for name in names]
        ends = np.cumsum([*map(len, encoded)], dtype=np.int64)
        return cls(np.frombuffer(b"".join(encoded), np.uint8), ends, shown, counts)

    def __len__(self) -> int:
        """The number of records."""
        return len(self.counts)

    def names(self) -> dict[int, str]:
        """The names that records show, by their numbers, which are in the order of the records."""
        text, ends = self.text.tobytes(), [0, *self.name_ends.tolist()]
        used = np.zeros(len(self.name_ends), bool)
        used[self.shown] = True
        numbers = np.flatnonzero(used).tolist()
        return {n: text[ends[n] : ends[n + 1]].decode("utf-8", "surrogatepass") for n in numbers}

    def users(self, numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
        """The records that show some of the images, in order, each with the number of the image."""
        places = np.flatnonzero(np.isin(self.shown, [*numbers]))
        records = np.repeat(np.arange(len(self)), self.counts)[places]
        return zip(records.tolist(), self.shown[places].tolist(), strict=True)

    def without(self, records: Iterable[int]) -> "ImageTable":
        """The table without these records."""
        kept = np.ones(len(self), bool)
        kept[[*records]] = False
        return replace(self, shown=self.shown[np.repeat(kept, self.counts)], counts=self.counts[kept])
