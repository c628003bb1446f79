"""An image to ask about: its source, and the crop that a model sees of it."""

from pathlib import Path
from typing import Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PILImage

from mlx_llava.config import ImageConfig
from mlx_llava.images import pixels
from mlx_llava.images.pixels import Decoding

Source = Union[str, Path, bytes, PILImage.Image, "Image"]


class Image:
    """An image, decoded when a model first needs it; keeps its crops and not the whole.

    Everything but `open` and `name` raises ImageError if the source is missing, damaged or too large.
    """

    def __init__(self, source: Path | bytes | PILImage.Image, name: str, decoding: Decoding) -> None:
        self.name = name
        self._source = source
        self._decoding: Decoding = decoding
        self._facts: tuple[str, tuple[int, int]] | None = None
        self._crops: dict[ImageConfig, NDArray[np.float32]] = {}

    @classmethod
    def open(cls, source: Source, name: str | None = None, decoding: Decoding = "display") -> "Image":
        """An image from a path, the bytes of a file, or Pillow; an `Image` is returned as it is."""
        if isinstance(source, Image):
            return source
        if isinstance(source, bytes | PILImage.Image):
            return cls(source, name or "image", decoding)
        return cls(Path(source), name or str(source), decoding)

    @property
    def identity(self) -> str:
        """SHA-256 of the decoded pixels."""
        return self._described()[0]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height before cropping."""
        return self._described()[1]

    def crop(self, config: ImageConfig) -> NDArray[np.float32]:
        """The vision tower's input `[side, side, 3]`."""
        if config not in self._crops:
            rgb = self._decode()
            self._facts = self._facts or (pixels.identity(rgb), rgb.size)
            self._crops[config] = pixels.crop(rgb, config, self.name)
        return self._crops[config]

    def _described(self) -> tuple[str, tuple[int, int]]:
        if self._facts is None:
            rgb = self._decode()
            self._facts = pixels.identity(rgb), rgb.size
        return self._facts

    def _decode(self) -> PILImage.Image:
        if isinstance(self._source, PILImage.Image):
            return pixels.to_rgb(self._source, self._decoding, self.name)
        name = self.name if isinstance(self._source, bytes) else ""
        return pixels.open_image(self._source, self._decoding, name)
