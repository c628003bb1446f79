"""A home of its own for what training remembers about images."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
