"""Which files of a checkpoint are taken: safetensors first, .bin files where there is nothing else."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from checkpoints import arrays, save
from torch_files import as_zip, strided

from mlx_llava.convert.sources import files
from mlx_llava.convert.sources.files import SINGLE, fetch_checkpoint, tensors_of
from mlx_llava.errors import CheckpointError, ModelError

BIN = as_zip({"x": strided(np.ones(3, np.float32))})


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    source = save(tmp_path / "source", arrays())
    (source / SINGLE).write_bytes(BIN)
    assert len(tensors_of(source)) == 64
    (source / "model.safetensors").unlink()
    assert tensors_of(source).keys() == {"x"}


INDEXES = {
    "not a map": ("weight_map is not", "[]"),
    "another folder": ("plainly named", '{"x": "../pytorch_model.bin"}'),
    "another kind": ("plainly named", '{"x": "model.safetensors"}'),
    "a missing file": ("other.bin is missing", '{"x": "other.bin"}'),
    "a missing tensor": ("lacks tensor 'y'", f'{{"x": "{SINGLE}", "y": "{SINGLE}"}}'),
    "another place": ("puts in no file", f'{{"y": "{SINGLE}"}}'),
}


@pytest.mark.parametrize("fault", INDEXES)
def test_an_index_with_a_fault_is_refused(fault: str, tmp_path: Path) -> None:
    told, weight_map = INDEXES[fault]
    (tmp_path / SINGLE).write_bytes(BIN)
    (tmp_path / f"{SINGLE}.index.json").write_text(f'{{"weight_map": {weight_map}}}')
    with pytest.raises(CheckpointError, match=told):
        tensors_of(tmp_path)


def test_a_repository_without_safetensors_is_fetched_with_its_bin_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Sequence[str]] = []

    def fetch(name: str, revision: str | None = None, patterns: Sequence[str] = ()) -> Path:
        asked.append(patterns)
        if "*.bin" not in patterns:
            raise ModelError(f"{name}: the repository has no .safetensors weights", "")
        return tmp_path

    monkeypatch.setattr(files, "fetch", fetch)
    with pytest.raises(ModelError, match=r"no \.safetensors"):
        fetch_checkpoint("someone/llava")
    (tmp_path / SINGLE).write_bytes(BIN)
    assert fetch_checkpoint("someone/llava") == tmp_path
    assert "*.safetensors" not in asked[-1]
    with pytest.raises(ModelError):
        fetch_checkpoint("/not/a/repository")
