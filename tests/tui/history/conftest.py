"""A history in a folder, whose clock advances by a second per change."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from mlx_llava.tui.history.history import History


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def history(folder: Path) -> Iterator[History]:
    history = History(folder, clock=count(1000.0).__next__)
    yield history
    history.close()
