import random

import numpy as np
import pytest
from make_pixels_golden import FITS, GOLDEN, Fit, golden, image_files, loaded, pattern, reference
from PIL import Image

from mlx_llava.config import ImageConfig
from mlx_llava.images.pixels import crop, open_image

pytestmark = pytest.mark.filterwarnings("ignore:Palette images with Transparency")  # by Pillow, in `loaded`

FILES = image_files()


def assert_same(image: Image.Image, expected: Image.Image, side: int, fit: Fit) -> None:
    ours = crop(image, ImageConfig(side=side, fit=fit))
    np.testing.assert_allclose(ours, reference(expected, side, fit), rtol=0, atol=1e-6)  # fp32


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("side", [56, 96, 336])
@pytest.mark.parametrize("name", FILES)
def test_exact_is_what_the_processor_makes_of_plain_rgb(name: str, side: int, fit: Fit) -> None:
    assert_same(open_image(FILES[name], "training"), loaded(FILES[name], "training"), side, fit)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("name", [name for name in FILES if not name.startswith("16-bit")])
def test_seen_is_what_the_processor_makes_of_an_upright_picture(name: str, fit: Fit) -> None:
    assert_same(open_image(FILES[name], "display"), loaded(FILES[name], "display"), 56, fit)


@pytest.mark.parametrize("fit", FITS)
def test_three_hundred_random_sizes_are_exact(fit: Fit) -> None:
    draw = random.Random(0)
    for _ in range(300):
        image = Image.fromarray(pattern(draw.randint(1, 400), draw.randint(1, 400), 3))
        assert_same(image, image, draw.choice([23, 56, 96]), fit)


def test_a_photo_is_exact_at_the_size_of_the_tower() -> None:
    image = Image.fromarray(pattern(1023, 771, 3))
    for fit in FITS:
        assert_same(image, image, 336, fit)


def test_the_golden_file_is_what_the_processor_makes_today() -> None:
    stored = np.load(GOLDEN)
    today = dict(golden())
    assert set(today) == set(stored)
    for key, expected in today.items():
        np.testing.assert_array_equal(stored[key], expected)
