"""Images are opened before training: each once, unreadable ones by record, readable ones remembered."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mlx_llava.data import image_check
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.examples import Examples
from mlx_llava.data.image_check import with_readable_images
from mlx_llava.data.readable_images import file_keys
from mlx_llava.data.reading import read
from mlx_llava.errors import ImageError
from mlx_llava.images.pixels import open_image

Write = Callable[[Any], Path]


@pytest.fixture
def opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are decoded, in a home of its own."""
    names: list[str] = []

    def recorded(path: Path, *rest: Any) -> Image.Image:
        names.append(path.name)
        return open_image(path, *rest)

    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(image_check, "open_image", recorded)
    return names


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve noisy photos."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(12):
        Image.frombytes("RGB", (32, 24), os.urandom(32 * 24 * 3)).save(folder / f"{n}.png")
    return folder


def examples_of(builder: ExampleBuilder, write: Write, photos: Path, *names: str) -> Examples:
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a cat"}]
    rows = "\n".join(json.dumps({"image": name, "conversations": said}) for name in names)
    return Examples(read(write(rows), photos), replace(builder, images=photos))


def cut(photo: Path) -> None:
    data = photo.read_bytes()
    photo.write_bytes(data[: len(data) // 2])


def silent(done: int, total: int) -> None:
    pass


def test_each_image_is_decoded_once_and_again_only_when_its_file_changes(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str]
) -> None:
    examples = examples_of(builder, write, photos, *(f"{n % 12}.png" for n in range(30)))
    assert len(with_readable_images(examples, report=silent)) == 30
    assert sorted(opened) == sorted(f"{n}.png" for n in range(12))
    opened.clear()
    with_readable_images(examples, report=silent)
    assert opened == []
    Image.new("RGB", (40, 30)).save(photos / "3.png")
    with_readable_images(examples, report=silent)
    assert opened == ["3.png"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_unreadable_image_is_refused_or_left_out_with_its_records_in_every_run(
    builder: ExampleBuilder,
    write: Write,
    photos: Path,
    opened: list[str],
    num_workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(image_check, "CHUNK", 5)
    examples = examples_of(builder, write, photos, *(f"{n % 12}.png" for n in range(84)))
    cut(photos / "5.png")
    reports: list[tuple[int, int]] = []
    for _ in range(2):
        with pytest.raises(
            ImageError, match=r"7 bad records: record 6, line 6: .*5\.png: the image is damaged"
        ) as error:
            with_readable_images(examples, num_workers=num_workers, report=lambda *done: reports.append(done))
        assert "--leave-out" in error.value.advice
    assert reports == [(5, 12), (10, 12), (12, 12), (1, 1)]
    left = with_readable_images(examples, leave_out=True, num_workers=num_workers, report=silent)
    assert len(left) == 84 - 7
    assert [record.number for record in left.dataset.left_out] == [6, 18, 30, 42, 54, 66, 78]
    assert not any("5.png" in record.images for record in left.dataset)


def test_an_image_that_is_too_thin_for_the_tower_is_unreadable(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str]
) -> None:
    Image.new("RGB", (16_000, 1)).save(photos / "thin.png")
    wide = replace(builder, image=replace(builder.image, side=336))
    examples = examples_of(wide, write, photos, "thin.png", "1.png")
    with pytest.raises(ImageError, match=r"record 1, line 1: .*too long and thin"):
        with_readable_images(examples, report=silent)


def test_leave_out_does_not_leave_nothing(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str]
) -> None:
    examples = examples_of(builder, write, photos, "1.png")
    cut(photos / "1.png")
    with pytest.raises(ImageError, match="the image is damaged") as error:
        with_readable_images(examples, leave_out=True, report=silent)
    assert "--leave-out" not in error.value.advice


def test_what_was_opened_before_ctrl_c_is_remembered(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_check, "CHUNK", 6)
    names = [f"{n}.png" for n in range(12)]
    examples = examples_of(builder, write, photos, *names)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_readable_images(examples, report=interrupt)
    opened.clear()
    with_readable_images(examples, report=silent)
    assert sorted(opened) == sorted(names[6:])


def test_the_current_folder_may_be_gone_if_that_of_the_images_is_absolute(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert file_keys(photos, [f"{n}.png" for n in range(12)], 0).all()


def test_training_goes_on_where_nothing_can_be_remembered(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str], tmp_path: Path
) -> None:
    (tmp_path / "home").write_text("a file where the folder should be")
    examples = examples_of(builder, write, photos, "1.png", "2.png")
    assert len(with_readable_images(examples, report=silent)) == 2


@pytest.mark.parametrize("content", [b"", b"half", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'"])
def test_a_damaged_memory_is_forgotten(
    builder: ExampleBuilder, write: Write, photos: Path, opened: list[str], content: bytes, tmp_path: Path
) -> None:
    examples = examples_of(builder, write, photos, "1.png", "2.png")
    with_readable_images(examples, report=silent)
    (memory,) = (tmp_path / "home").rglob("*.npy")
    memory.write_bytes(content)
    with_readable_images(examples, report=silent)
    assert opened == ["1.png", "2.png"] * 2
