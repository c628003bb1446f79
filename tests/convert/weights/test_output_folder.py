"""The output folder is whole or absent, an old one stays until the new one is whole, the input is only read."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from checkpoints import arrays, converted, save, save_shards

from mlx_llava.checkpoint.folder import load
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.weights import output_folder
from mlx_llava.errors import ConversionError, LimitError, LlavaError

Tree = dict[str, str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "source", arrays())


def tree(root: Path) -> Tree:
    """Every file below a folder, hidden ones as well, with its digest."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def damage(source: Path) -> None:
    """Make the last value of the last tensor NaN."""
    weights = arrays()
    weights[max(weights)][-1] = np.nan
    save(source, weights)


def test_a_damaged_value_in_the_last_tensor_leaves_nothing_behind(source: Path, tmp_path: Path) -> None:
    damage(source)
    with pytest.raises(ConversionError, match="NaN"):
        converted(source, tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_full_disk_leaves_nothing_behind_and_says_so(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.pwrite, iter(range(30))

    def full(*arguments: object) -> int:
        if next(calls, None) is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)  # pyright: ignore

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(LlavaError, match=r"out: No space left on device; nothing was written\n.*free space"):
        converted(source, tmp_path / "place" / "out")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(LimitError, match=r"takes 1000000000\.0 GB"),
        output_folder.appearing(tmp_path / "place" / "out", False, 10**18),
    ):
        pytest.fail("nothing is to be written")
    assert list((tmp_path / "place").iterdir()) == []


def test_bytes_that_arrive_a_few_at_a_time_all_arrive(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = converted(source, tmp_path / "whole")
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, place: real(file, data[:4099], place))
    assert tree(converted(source, tmp_path / "pieces")) == tree(whole)


def test_an_existing_folder_is_left_alone(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out")
    before = tree(tmp_path)
    with pytest.raises(ConversionError, match=r"out: already exists\n.*--overwrite"):
        converted(source, out)
    assert tree(tmp_path) == before


def test_of_two_processes_the_first_to_finish_wins(source: Path, tmp_path: Path) -> None:
    out, faster = tmp_path / "out", converted(source, tmp_path / "faster", quantize=True)
    before = tree(faster)
    slower = prepare(ConvertOptions(hf_path=str(source), mlx_path=out))
    with pytest.raises(ConversionError, match="already exists"):
        write(slower, lambda *_: None if out.exists() else faster.rename(out))
    assert tree(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_overwrite_replaces_the_whole_folder(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out", quantize=True)
    (out / "notes.txt").write_text("of the old one")
    converted(source, out, overwrite=True)
    assert tree(out) == tree(converted(source, tmp_path / "fresh"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "out", "source"]


def test_overwrite_keeps_the_old_folder_when_the_new_one_fails(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out")
    before = tree(out)
    damage(source)
    with pytest.raises(ConversionError):
        converted(source, out, overwrite=True)
    assert tree(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_overwrite_puts_the_old_folder_back_when_the_new_one_cannot_take_its_place(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = converted(source, tmp_path / "out")
    before = tree(out)
    real = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if path.name.startswith(".out-") and not path.name.endswith("-old"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(LlavaError, match="Input/output error; nothing was written"):
        converted(source, out, overwrite=True)
    assert tree(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


@pytest.mark.parametrize("name", ["source", "photos", "."])
def test_overwrite_replaces_nothing_but_a_converted_folder(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_bytes(b"cat")
    before = tree(tmp_path)
    with pytest.raises(ConversionError, match="not a converted folder, so --overwrite leaves it alone"):
        converted(source, tmp_path / name, overwrite=True)
    assert tree(tmp_path) == before


def test_overwrite_leaves_a_converted_folder_alone_that_holds_other_folders(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out")
    (out / "adapters").mkdir()
    with pytest.raises(ConversionError, match="so --overwrite leaves it alone"):
        converted(source, out, overwrite=True)


@pytest.mark.parametrize("name", ["loop", "loop/out"])
def test_a_link_that_leads_to_itself_is_refused(source: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(LlavaError, match="behind a link that leads to itself"):
        converted(source, tmp_path / name)


@pytest.mark.parametrize("overwrite", [True, False])
def test_a_folder_that_holds_the_checkpoint_is_not_replaced(source: Path, tmp_path: Path, overwrite: bool) -> None:
    out = converted(source, tmp_path / "out")
    inside = save(out / "source", arrays())
    with pytest.raises(ConversionError, match="out: "):
        converted(inside, out, overwrite=overwrite)
    with pytest.raises(ConversionError, match=r"out: holds .*source, which is still needed"):
        output_folder.check_apart(out, None, tmp_path, inside)
    assert inside.is_dir()


def test_the_input_is_only_read(tmp_path: Path) -> None:
    source = save_shards(tmp_path / "source", arrays(), 2)
    before = tree(source)
    for path in source.iterdir():
        path.chmod(0o444)
    source.chmod(0o555)
    opened = watch_opens()
    converted(source, tmp_path / "out", quantize=True)
    opened.append(None)
    source.chmod(0o755)
    flags = {how for how in opened if how is not None}
    assert tree(source) == before
    assert flags
    assert not any(how & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC) for how in flags)


def watch_opens() -> list[int | None]:
    """Flags of every open below a folder named source, until None is appended."""
    seen: list[int | None] = []

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and "/source/" in str(arguments[0]) and None not in seen:
            assert isinstance(arguments[2], int)
            seen.append(arguments[2])

    sys.addaudithook(hook)
    return seen


KILLED = """
import os, signal, sys
from pathlib import Path
from mlx_llava.convert.job import prepare, write
from mlx_llava.convert.options import ConvertOptions
source, target, overwrite = sys.argv[1:]
job = prepare(ConvertOptions(hf_path=source, mlx_path=Path(target), overwrite=overwrite == "yes"))
written = [0]
def count(num_bytes, total):
    written[0] += num_bytes
    if written[0] > total / 2:
        os.kill(os.getpid(), signal.SIGKILL)
write(job, count)
"""


@pytest.mark.parametrize("overwrite", ["no", "yes"])
def test_a_process_killed_in_the_middle_leaves_a_hidden_folder_at_most(
    overwrite: str, source: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    before = tree(converted(source, place / "out", quantize=True)) if overwrite == "yes" else None
    done = subprocess.run([sys.executable, "-c", KILLED, str(source), str(place / "out"), overwrite], check=False)
    assert done.returncode == -signal.SIGKILL
    hidden = [path for path in place.iterdir() if path.name != "out"]
    assert len(hidden) == 1
    assert hidden[0].name.startswith(".out-")
    if before:
        assert tree(place / "out") == before
        load(place / "out")
    assert (place / "out").exists() == bool(before)


def test_a_place_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LlavaError, match=r"file/out: File exists; nothing was written"):
        converted(source, tmp_path / "file" / "out")


def test_the_folder_says_where_it_comes_from_and_what_was_done(source: Path, tmp_path: Path) -> None:
    out = converted(source, tmp_path / "out", quantize=True, q_bits=8)
    ours = json.loads((out / "config.json").read_text())["mlx_llava"]
    assert ours["source"]["name"] == str(source)
    assert ours["source"]["converter"].startswith("mlx-llava ")
    assert "layers quantized: 8 bits affine, groups of 64" in (out / "README.md").read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
