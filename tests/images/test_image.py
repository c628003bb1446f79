"""Images to ask about: decoded late, and once for each config."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from mlx_llava.config import ImageConfig
from mlx_llava.errors import ImageError
from mlx_llava.images import pixels
from mlx_llava.images.image import Image

CONFIG, OTHER = ImageConfig(side=8), ImageConfig(side=8, fit="pad")


def photo(mode: str = "RGB") -> PIL.Image.Image:
    return PIL.Image.effect_noise((20, 10), 50).convert(mode)


def png(image: PIL.Image.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_nothing_is_read_before_it_is_needed(tmp_path: Path) -> None:
    image = Image.open(tmp_path / "later.png")
    with pytest.raises(ImageError, match="no such file"):
        image.crop(CONFIG)
    (tmp_path / "later.png").write_bytes(png(photo()))
    assert image.size == (20, 10)


def test_an_image_is_decoded_once_for_each_config(monkeypatch: pytest.MonkeyPatch) -> None:
    decode, decoded = pixels.open_image, []
    monkeypatch.setattr(pixels, "open_image", lambda *source: decoded.append(1) or decode(*source))
    image = Image.open(png(photo()))
    facts: list[Any] = [image.crop(CONFIG), image.crop(CONFIG), image.identity, image.size]
    assert len(decoded) == 1
    assert facts[0] is facts[1]
    assert not np.array_equal(image.crop(OTHER), facts[0])
    assert len(decoded) == 2


def test_a_pillow_image_is_the_same_image_as_its_file(tmp_path: Path) -> None:
    pillow = photo("RGBA")
    (tmp_path / "a.png").write_bytes(png(pillow))
    images = [Image.open(source) for source in (pillow, png(pillow), tmp_path / "a.png", str(tmp_path / "a.png"))]
    assert len({image.identity for image in images}) == 1
    assert [image.name for image in images] == ["image", "image", str(tmp_path / "a.png"), str(tmp_path / "a.png")]
    assert Image.open(images[0]) is images[0]


def test_the_decoding_is_that_of_pixels() -> None:
    data = png(photo("RGBA"))
    for decoding in ("display", "training"):
        expected = pixels.crop(pixels.open_image(data, decoding), CONFIG)
        np.testing.assert_array_equal(Image.open(data, decoding=decoding).crop(CONFIG), expected)
