"""Checkpoints of several weight files: read as one, or refused in a line that says what does not fit."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from fuzz.safetensors_diff import entry
from weight_files import FOUR, one, packed, refusal

from mlx_llava.checkpoint.reader import INDEX, Reader, read_index
from mlx_llava.checkpoint.safetensors import MAX_HEADER
from mlx_llava.errors import ModelError

X, Y = "model-1-of-2.safetensors", "model-2-of-2.safetensors"


def sharded(folder: Path, index: object) -> Path:
    """A folder whose first shard holds x and whose second holds y."""
    folder.mkdir(exist_ok=True)
    (folder / X).write_bytes(one(name="x"))
    (folder / Y).write_bytes(one(name="y"))
    (folder / INDEX).write_bytes(index if isinstance(index, bytes) else json.dumps(index).encode())
    return folder


def test_a_sharded_checkpoint_is_the_union_of_its_shards(tmp_path: Path) -> None:
    index = {"metadata": {"total_size": 8.0}, "weight_map": {"y": Y, "x": X}}
    found = read_index(sharded(tmp_path, index))
    assert {name: tensor.file.name for name, tensor in found.items()} == {"x": X, "y": Y}


def places(**changes: object) -> object:
    return {"weight_map": {"x": X, "y": Y, **changes}}


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (b"{", "is not valid: Expecting"),
        (b"", "is not valid: Expecting"),
        (b"[]", "is not a JSON object"),
        (b"\xff", "is not valid: 'utf-8' codec"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"weight_map": {"x": "a.safetensors", "x": "b.safetensors"}}', '"x" appears twice'),
        ({}, "weight_map is not a map"),
        ({"weight_map": [X, Y]}, "weight_map is not a map"),
        ({"weight_map": {}}, "weight_map is not a map"),
        (places(x=f"../{X}"), "'x' is not in a plainly named"),
        (places(x=f"../outside/{X}"), "'x' is not in a plainly named"),
        (places(x=f"/etc/{X}"), "'x' is not in a plainly named"),
        (places(x=f"./{X}"), "'x' is not in a plainly named"),
        (places(x=f"sub/{X}"), "'x' is not in a plainly named"),
        (places(x=f"sub\\{X}"), "'x' is not in a plainly named"),
        (places(x=f"{X}\0"), "'x' is not in a plainly named"),
        (places(x=f"{X}\n"), "'x' is not in a plainly named"),
        (places(x=f".{X}"), "'x' is not in a plainly named"),
        (places(x="m" * 300 + ".safetensors"), "'x' is not in a plainly named"),
        (places(x="pytorch_model.bin"), "'x' is not in a plainly named"),
        (places(x=None), "'x' is not in a plainly named"),
        (places(x=[X]), "'x' is not in a plainly named"),
        (places(x="model-3-of-3.safetensors"), "model-3-of-3.safetensors is missing, perhaps an incomplete"),
        (places(z=X), f"{X} lacks tensor 'z', which the index puts there"),
        (places(**{"": X}), f"{X} lacks tensor '', which the index puts there"),
        (places(x=Y), f"{Y} lacks tensor 'x', which the index puts there"),
        ({"weight_map": {"x": X, "z": Y}}, f"{Y} holds tensor 'y', which the index puts in no file"),
        (places(x=Y, z=X), f"{X} holds tensor 'x', which the index puts in {Y}"),
        ({"weight_map": {"x": X, "y": "link.safetensors"}}, "link.safetensors holds tensor 'x'"),
    ],
)
def test_an_index_that_does_not_fit_its_shards_is_refused(index: object, words: str, tmp_path: Path) -> None:
    sharded(tmp_path / "outside", places())
    folder = sharded(tmp_path / "checkpoint", index)
    (folder / "link.safetensors").symlink_to(X)
    problem = refusal(read_index, folder).problem
    assert words in problem
    assert problem.isprintable()


def test_an_index_of_more_than_100_mb_is_refused_unread(tmp_path: Path) -> None:
    os.truncate(sharded(tmp_path, places()) / INDEX, MAX_HEADER + 1)
    assert "is larger than 100000000 bytes" in refusal(read_index, tmp_path).problem


def test_a_tensor_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = sharded(tmp_path, places())
    (folder / Y).write_bytes(packed({"y": entry("U8", [1], 0, 1), "x": entry("U8", [1], 1, 2)}, bytes(2)))
    assert f"{Y} holds tensor 'x', which the index puts in {X}" in refusal(read_index, folder).problem


@pytest.mark.parametrize(
    ("files", "words", "advice"),
    [
        ([X, Y], "model.safetensors.index.json is missing", "Download"),
        (["pytorch_model.bin"], "holds PyTorch files (.bin)", "pytorch_model.bin"),
        (["mm_projector.bin", "config.json"], "holds PyTorch files (.bin)", "pytorch_model.bin"),
    ],
)
def test_a_folder_without_weights_says_what_to_do(files: list[str], words: str, advice: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    error = refusal(read_index, tmp_path)
    assert words in error.problem
    assert advice in error.advice


@pytest.mark.parametrize("files", [[], ["config.json", "adapters.safetensors"]])
def test_a_folder_without_weights_is_no_model(files: list[str], tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match=r"no weights in it, neither model.safetensors nor shards"):
        read_index(tmp_path)


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "No such file" in refusal(read_index, tmp_path / "none").problem
    assert "Not a directory" in refusal(read_index, tmp_path / "file").problem


def test_one_file_may_have_an_index(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(one())
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "model.safetensors"}}))
    assert list(read_index(tmp_path)) == ["a"]


def test_one_file_beside_an_index_of_others_is_refused(tmp_path: Path) -> None:
    (sharded(tmp_path, places()) / "model.safetensors").write_bytes(one())
    assert "does not name model.safetensors" in refusal(read_index, tmp_path).problem


def test_the_links_of_a_hugging_face_cache_are_followed(tmp_path: Path) -> None:
    blobs = sharded(tmp_path / "blobs", places())
    snapshot = tmp_path / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    for number, name in enumerate((X, Y, INDEX)):
        (blobs / name).rename(blobs / f"{number}f00d")
        (snapshot / name).symlink_to(f"../../blobs/{number}f00d")
    with Reader() as reader:
        assert [reader.rows(tensor).tobytes() for tensor in read_index(snapshot).values()] == [FOUR, FOUR]


def tree(folder: Path) -> dict[str, tuple[bytes, int, int]]:
    files = [*folder.iterdir()]
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns, file.stat().st_mode) for file in files}


def test_a_read_only_checkpoint_is_read_and_stays_as_it_is(tmp_path: Path) -> None:
    folder = sharded(tmp_path / "checkpoint", places())
    for file in folder.iterdir():
        file.chmod(0o444)
    folder.chmod(0o555)
    before = tree(folder)
    with Reader() as reader:
        for tensor in read_index(folder).values():
            reader.rows(tensor)
    assert tree(folder) == before


def test_only_weight_files_are_opened_and_only_for_reading(tmp_path: Path) -> None:
    folder = sharded(tmp_path, places())
    for name in ("modeling.py", "other.safetensors", "pytorch_model.bin"):
        (folder / name).touch()
    opened: list[tuple[str, int]] = []

    def watch(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and str(args[0]).startswith(str(folder)):
            opened.append((Path(args[0]).name, args[2] & os.O_ACCMODE))

    sys.addaudithook(watch)
    with Reader() as reader:
        for tensor in read_index(folder).values():
            reader.rows(tensor)
    assert set(opened) == {(name, os.O_RDONLY) for name in (INDEX, X, Y)}
