"""A folder of pictures, data files, and the maker of examples of the embedded model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlx_llava.config import ImageConfig
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.prompts.templates import template
from mlx_llava.prompts.tokens import Tokenizer

TINY = Path(__file__).parents[1] / "fixtures" / "llama-576"

Write = Callable[[Any], Path]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Two small pictures, one of them in a folder."""
    folder = tmp_path / "images"
    (folder / "coco").mkdir(parents=True)
    Image.new("RGB", (30, 20), "red").save(folder / "red.png")
    Image.new("RGB", (20, 30), "blue").save(folder / "coco" / "blue.png")
    return folder


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write rows as a JSON list, text or bytes as they are."""

    def write(content: Any) -> Path:
        file = tmp_path / "train.json"
        text = content if isinstance(content, str | bytes) else json.dumps(content)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def builder(images: Path) -> ExampleBuilder:
    """Makes examples of small pictures, four rows each."""
    tokenizer = Tokenizer.load(TINY / "tokenizer.json", num_rows=576, image_id=530, restart_after_image=False)
    return ExampleBuilder(template("v1"), tokenizer, ImageConfig(side=28), 4, images, max_tokens=200)
