"""A file is scanned once for all starts, and again when it changes, or the way to check it; faults stay faults."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from spine import EMBEDDED

from mlx_llava.data import scan_memory
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.loader import loader
from mlx_llava.data.reading import read
from mlx_llava.errors import RecordError
from mlx_llava.prompts.templates import template
from mlx_llava.prompts.tokens import Tokenizer

Change = Callable[[ExampleBuilder], ExampleBuilder]
ROWS = ["a cat", "", "long " * 200, "a dog"]


def put_back(file: Path, seconds: float) -> None:
    """Set the times of a file some seconds back."""
    then = time.time() - seconds
    os.utime(file, (then, then))


class Reader:
    """Reads a file again and again, as starts of a program do."""

    def __init__(self, file: Path, images: Path, builder: ExampleBuilder) -> None:
        self.file, self.images, self.builder = file, images, builder
        self.cache = file.parent / "home" / "cache" / "scans"

    def write(self, *answers: str, image: str = "red.png", age: float = 60) -> None:
        """Write a row per answer, as of some seconds ago."""
        turns = [[{"from": "human", "value": "<image>"}, {"from": "gpt", "value": answer}] for answer in answers]
        rows = [{"conversations": turn, "image": image} for turn in turns]
        self.file.write_text("\n".join(map(json.dumps, rows)))
        put_back(self.file, age)

    def read(self, builder: ExampleBuilder | None = None, *, skip_bad: bool = True) -> tuple[Dataset, bool]:
        """The dataset, and whether the file was scanned for it."""
        reports: list[int] = []
        builder = builder or self.builder
        data = read(
            self.file, self.images, builder=builder, skip_bad=skip_bad, report=lambda done, total: reports.append(done)
        )
        return data, bool(reports)


@pytest.fixture
def reader(tmp_path: Path, images: Path, builder: ExampleBuilder, monkeypatch: pytest.MonkeyPatch) -> Reader:
    """Reads a file of two good records, a bad one and a long one, with a cache of its own."""
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(scan_memory, "LARGE", 0)
    reader = Reader(tmp_path / "rows.jsonl", images, builder)
    reader.write(*ROWS)
    return reader


def test_the_next_start_reads_no_row_and_has_the_same_dataset(reader: Reader) -> None:
    first, scanned = reader.read()
    again, scanned_again = reader.read()
    assert (scanned, scanned_again) == (True, False)
    assert np.array_equal(first.table, again.table)
    assert first.left_out == again.left_out
    assert (first.fingerprint, first.stamp, first.images.names()) == (
        again.fingerprint,
        again.stamp,
        again.images.names(),
    )
    assert [record.turns for record in again] == [record.turns for record in first]


def test_faults_are_reported_at_every_start_as_at_the_first(reader: Reader) -> None:
    problems = list[str]()
    for _ in range(2):
        with pytest.raises(RecordError) as raised:
            reader.read(skip_bad=False)
        problems.append(str(raised.value))
    assert problems[0] == problems[1]
    assert "value is empty" in problems[0]


def test_images_are_looked_for_at_every_start(reader: Reader) -> None:
    assert len(reader.read()[0]) == 2
    (reader.images / "red.png").rename(reader.images / "gone.png")
    with pytest.raises(RecordError, match=r"4 bad records: record 1, line 1: image 'red\.png' is not in"):
        reader.read()
    (reader.images / "gone.png").rename(reader.images / "red.png")
    data, scanned = reader.read(replace(reader.builder))
    assert (len(data), scanned) == (2, False)


def test_a_file_that_changes_is_scanned_again(reader: Reader) -> None:
    reader.read()
    mtime = reader.file.stat().st_mtime_ns
    reader.write("a fox", *ROWS[1:])  # of the same size
    data, scanned = reader.read()
    assert scanned
    assert data[0].turns[0].answer == "a fox"
    reader.file.write_text(reader.file.read_text().replace("fox", "cow"))
    os.utime(reader.file, ns=(mtime, mtime))  # the time of the first
    data, scanned = reader.read()
    assert scanned
    assert data[0].turns[0].answer == "a cow"
    assert len([*reader.cache.iterdir()]) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda builder: replace(builder, max_tokens=150),
        lambda builder: replace(builder, template=template("v0")),
        lambda builder: replace(builder, rows_per_image=5),
        lambda builder: replace(builder, images_first=True),
        lambda builder: replace(builder, tokenizer=tokenizer_of_the_bundled_model()),
    ],
)
def test_another_way_to_check_is_another_scan_and_both_are_kept(reader: Reader, change: Change) -> None:
    other = change(reader.builder)
    assert [reader.read(builder)[1] for builder in (reader.builder, other)] == [True, True]
    assert [reader.read(builder)[1] for builder in (reader.builder, other)] == [False, False]


def tokenizer_of_the_bundled_model() -> Tokenizer:
    return Tokenizer.load(EMBEDDED / "tokenizer.json", num_rows=640, image_id=0, restart_after_image=False)


def test_the_settings_are_the_same_in_another_process(builder: ExampleBuilder) -> None:
    with loader(ExampleBuilder.settings, [(0, builder)], 1) as results:
        assert [repr(settings) for _, settings in results] == [repr(builder.settings())]


def test_another_version_of_the_checks_scans_again(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    reader.read()
    monkeypatch.setattr(scan_memory, "CHECKS", scan_memory.CHECKS + 1)
    assert [reader.read()[1] for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: b"half",
        lambda data: data[:-1],
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: data[32:],
    ],
)
def test_a_damaged_memory_is_ignored_and_replaced(reader: Reader, damage: Callable[[bytes], bytes]) -> None:
    first, _ = reader.read()
    (remembered,) = reader.cache.iterdir()
    remembered.write_bytes(damage(remembered.read_bytes()))
    data, scanned = reader.read()
    assert scanned
    assert np.array_equal(data.table, first.table)
    assert not reader.read()[1]


def test_a_file_written_just_now_is_not_remembered(reader: Reader) -> None:
    """Its next change could have the same time."""
    reader.write(*ROWS, age=0)
    assert [reader.read()[1] for _ in range(2)] == [True, True]


def test_a_small_file_is_not_remembered(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_memory, "LARGE", 1 << 20)
    assert [reader.read()[1] for _ in range(2)] == [True, True]
    assert not reader.cache.exists()


def test_a_cache_that_cannot_be_written_is_no_error(reader: Reader) -> None:
    (reader.file.parent / "home").write_text("a file where the folder should be")
    assert [len(reader.read()[0]) for _ in range(2)] == [2, 2]


def test_what_was_not_used_for_longest_is_removed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    builders = [replace(reader.builder, max_tokens=150 + n) for n in range(3)]
    reader.read(builders[0])
    reader.read(builders[1])
    sizes = {file: file.stat().st_size for file in reader.cache.iterdir()}
    for age, file in enumerate(sorted(sizes, key=lambda file: file.stat().st_mtime_ns, reverse=True)):
        put_back(file, 1000 + age)
    reader.read(builders[0])  # used again
    monkeypatch.setattr(scan_memory, "LIMIT", 2 * max(sizes.values()) + 100)
    reader.read(builders[2])
    assert [reader.read(builders[n])[1] for n in (0, 2, 1)] == [False, False, True]
