"""Files are checked in one pass: the same with workers and without, in chunks of any size, whatever is wrong."""

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_llava.data import scan as scan_module
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.dataset import Dataset
from mlx_llava.data.reading import read
from mlx_llava.errors import RecordError

Write = Callable[[Any], Path]


def row(answer: str, *images: str, **more: Any) -> dict[str, Any]:
    question = "<image>\n" * len(images) + "What?"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    return {"conversations": turns, "image": list(images), **more}


def mixed_rows(count: int) -> list[Any]:
    """Rows of every kind: good, without a record, without an image file, and with too many tokens."""
    kinds = [
        *[row("a cat", "red.png"), row("Ünï 🙂", "coco/blue.png", "red.png"), row("text"), row("longer " * 20)] * 3,
        *[row(""), row("x", "gone.png"), row("long " * 200), row("long " * 200, "gone.png"), row("x", id=[1]), 5],
    ]
    return random.Random(count).choices(kinds, k=count)


def as_list(rows: list[Any]) -> str:
    return json.dumps(rows, ensure_ascii=False, indent=1)


def as_lines(rows: list[Any]) -> str:
    return "\n\n".join(json.dumps(row) for row in rows) + '\n{"broken\n'


def same(one: Dataset, other: Dataset) -> None:
    assert np.array_equal(one.table, other.table)
    assert one.left_out == other.left_out
    assert one.images.names() == other.images.names()
    assert [record.images for record in one] == [record.images for record in other]


@pytest.mark.parametrize("written", [as_list, as_lines])
def test_chunks_and_workers_change_nothing(
    written: Callable[[list[Any]], str],
    write: Write,
    images: Path,
    builder: ExampleBuilder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = mixed_rows(300)
    file = write(written(rows))
    whole = read(file, images, builder=builder, skip_bad=True)
    assert {record.problem.split()[0] for record in whole.left_out} >= {"conversations[1].value", "image", "id", "not"}
    assert any("tokens, the limit is 200" in record.problem for record in whole.left_out)
    assert len(whole) + len(whole.left_out) == len(rows) + (written is as_lines)
    monkeypatch.setattr(scan_module, "LARGE", 0)
    for chunk, num_bytes, num_workers in ((1, 1 << 20, 0), (7, 500, 2), (100, 1 << 20, 3)):
        monkeypatch.setattr(scan_module, "CHUNK", chunk)
        monkeypatch.setattr(scan_module, "CHUNK_BYTES", num_bytes)
        same(whole, read(file, images, builder=builder, skip_bad=True, num_workers=num_workers))


def test_faulty_rows_are_reported_first_and_then_those_that_do_not_fit(
    write: Write, images: Path, builder: ExampleBuilder
) -> None:
    long = [row("long " * 200), row("long " * 200, "gone.png"), row("")]
    with pytest.raises(RecordError, match=r"2 bad records: record 2, line 1: image 'gone\.png'.*record 3") as raised:
        read(write(long), images, builder=builder)
    assert "tokens" not in raised.value.problem
    with pytest.raises(RecordError, match=r"json: record 1, line 1: \d+ tokens, the limit is 200\n") as raised:
        read(write([*long[:1], row("short")]), images, builder=builder)
    assert raised.value.advice == "Allow more tokens with --max-tokens. Or skip them with --leave-out."


@pytest.mark.parametrize("num_workers", [0, 2])
def test_long_records_are_refused_together_or_left_out_and_counted(
    builder: ExampleBuilder, write: Write, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "LARGE", 0)
    file = write(as_list([row("long " * 200 if i % 10 == 0 else "short") for i in range(1500)]))
    with pytest.raises(RecordError, match=r"150 bad records: record 1, line 2: \d+ tokens, .* and 145 more\)"):
        read(file, None, builder=builder, num_workers=num_workers)
    left = read(file, None, builder=builder, num_workers=num_workers, skip_bad=True)
    assert len(left) == 1350
    assert len(left.left_out) == 150
    assert left.left_out[1].number == 11
    assert left[0].id == "2"


def test_a_dataset_of_long_records_alone_is_refused(builder: ExampleBuilder, write: Write) -> None:
    with pytest.raises(RecordError, match="record 1, line 1: ") as raised:
        read(write([row("a")]), None, builder=replace(builder, max_tokens=3), skip_bad=True)
    assert "--leave-out" not in raised.value.advice


def test_progress_ends_with_the_whole_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "CHUNK", 2)
    reports: list[tuple[int, int]] = []
    file = write([row("a")] * 5)
    read(file, None, report=lambda *done: reports.append(done))
    size = file.stat().st_size
    assert reports[-1] == (size - len("]"), size)
    assert len(reports) == 3
    assert reports == sorted(reports)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_file_that_changes_while_it_is_read_is_noticed(
    write: Write, num_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("LARGE", 0), ("CHUNK", 2)):
        monkeypatch.setattr(scan_module, name, value)
    file = write([row("a")] * 50)

    def change(done: int, total: int) -> None:
        with file.open("a") as appended:
            appended.write(" ")

    with pytest.raises(RecordError, match="changed "):
        read(file, None, num_workers=num_workers, report=change)
