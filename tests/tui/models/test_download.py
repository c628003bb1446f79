"""The chat's downloads are pulled models."""

import asyncio
from pathlib import Path

import pytest
from spine import CASES, EMBEDDED, write_checkpoint

from mlx_llava.catalog.pulled import models_folder, pulled_models
from mlx_llava.errors import ConversionError
from mlx_llava.tui.models.download import fetch


async def lines(source: Path) -> list[str]:
    return [line async for line in fetch(str(source), models_folder() / "mine")]


def test_a_download_is_a_pulled_model_with_its_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path / "home"))
    with pytest.raises(ConversionError, match="quantizes none"):
        asyncio.run(lines(EMBEDDED))
    assert pulled_models() == []
    write_checkpoint(next(iter(CASES.values())), tmp_path / "source")
    assert any(line.startswith("100%") for line in asyncio.run(lines(tmp_path / "source")))
    assert pulled_models() == [models_folder() / "mine"]
