"""Fixtures of the terminal chat."""

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home for caches that the tests share, so that the embedded model is converted once."""
    return tmp_path_factory.mktemp("home")
