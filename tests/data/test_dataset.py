"""Files of records: checked whole, read again exactly."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_llava.data.reading import read
from mlx_llava.errors import RecordError, UsageError

Write = Callable[[Any], Path]


def row(question: str = "Hi", **more: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": question}, {"from": "gpt", "value": "Hö 🙂"}], **more}


def test_records_are_read_again_from_their_places(write: Write, images: Path) -> None:
    file = write([row(id=1), row("<image>\nHi there", id="b", image="red.png"), row("Ünï", id="c")])
    data = read(file, images)
    assert [record.id for record in data] == ["1", "b", "c"]
    assert [data[i].id for i in (2, -1, 0)] == ["c", "c", "1"]
    assert data[1].where == f"{file}: record 2, line 1"
    assert data.lengths.tolist() == [record.length() for record in data] == [-3, 5, -3]


def test_lines_and_a_list_give_the_same_records(write: Write, images: Path) -> None:
    rows = [row(id=1), row("<image>", image="coco/blue.png")]
    listed = list(read(write(rows), images))
    lines = list(read(write("\n".join(json.dumps(row, ensure_ascii=False) for row in rows)), images))
    assert [(record.id, record.turns, record.images) for record in lines] == [
        (record.id, record.turns, record.images) for record in listed
    ]


def test_a_folder_has_splits(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row(id=split)))
    assert read(tmp_path, None)[0].id == "train"
    assert read(tmp_path, None, "valid")[0].id == "valid"
    with pytest.raises(UsageError, match=r"test\.jsonl: no such file"):
        read(tmp_path, None, "test")


def test_forty_records_with_one_fault_are_one_line_and_counted(write: Write) -> None:
    rows = [row() if i % 2 else row("") for i in range(80)]
    file = write("\n".join(map(json.dumps, rows)))
    with pytest.raises(RecordError) as raised:
        read(file, None)
    assert raised.value.problem == (
        f"{file}: 40 bad records: record 1, line 1: conversations[0].value is empty "
        "(also records 3, 5, 7, 9 and 35 more)"
    )
    assert raised.value.advice == "Fix these records. Or skip them with --leave-out."


def test_kinds_of_faults_are_told_apart_and_the_rest_is_counted(write: Write) -> None:
    rows = [row(""), row("<video>"), row(id=[1]), row(id=[2]), row("<image>"), {"id": 3}, [], {"x": 1}]
    with pytest.raises(RecordError) as raised:
        read(write(rows), None)
    assert raised.value.problem.split(": ", 1)[1] == (
        "8 bad records: record 1, line 1: conversations[0].value is empty; "
        "record 2, line 1: conversations[0].value has a <video> mark; "
        "record 3, line 1: id is [1], not text or a whole number (also record 4); "
        "record 5, line 1: 1 image mark in conversations, but no images; and 3 more"
    )
    assert raised.value.advice == "Fix these records. LLaVA trains on text and images."


def test_missing_images_are_reported_together_with_other_faults(write: Write, images: Path) -> None:
    visual = [row("<image>", image=name) for name in ("red.png", "gone.png", "coco", "no/where.png", "bad\0name")]
    data = read(write([*visual, row("")]), images, skip_bad=True)
    faults = [f"record {n}, line 1: image {name!r} is not in {images}" for n, name in ((2, "gone.png"), (3, "coco"))]
    assert [str(bad) for bad in data.left_out] == [
        *faults,
        f"record 4, line 1: image 'no/where.png' is not in {images}",
        f"record 5, line 1: image 'bad\\x00name' is not in {images}",
        "record 6, line 1: conversations[0].value is empty",
    ]


def test_an_image_folder_that_does_not_exist_is_refused(write: Write, images: Path) -> None:
    with pytest.raises(UsageError, match="gone: no such folder"):
        read(write([row("<image>", image="red.png")]), images / "gone")


def test_images_without_a_folder_are_refused(write: Write) -> None:
    with pytest.raises(UsageError, match="names an image, but no image folder"):
        read(write([row("<image>", image="a.png")]), None)


def test_a_wrong_image_folder_is_one_fault_and_names_the_flag(write: Write, images: Path) -> None:
    rows = [row("<image>", image=f"{name}.png") for name in ("a", "it's", "c1", 'd"')]
    with pytest.raises(RecordError) as raised:
        read(write(rows), images)
    assert raised.value.problem.endswith(
        f"record 1, line 1: image 'a.png' is not in {images} (also records 2, 3 and 4)"
    )
    assert raised.value.advice == "Check --images and the names of the images."


def test_absolute_paths_inside_the_image_folder_are_taken(write: Write, images: Path, tmp_path: Path) -> None:
    (link := tmp_path / "link").symlink_to(images)
    (outside := tmp_path / "red.png").write_bytes((images / "red.png").read_bytes())
    names = [
        images / "red.png",
        images / "coco" / "blue.png",
        link / "red.png",
        outside,
        "/red.png",
        images / "gone.png",
    ]
    data = read(write([row("<image>", image=str(name)) for name in names]), images, skip_bad=True)
    assert [record.images for record in data] == [(str(name),) for name in names[:3]]
    assert [bad.problem for bad in data.left_out] == [
        f"image '{outside}' leads out of the image folder {images}",
        f"image '/red.png' leads out of the image folder {images}",
        f"image '{images}/gone.png' is not in {images}",
    ]
    assert len(read(write([row("<image>", image=str(name)) for name in names[:3]]), link)) == 3


def test_bad_records_can_be_left_out_and_are_listed(write: Write, images: Path) -> None:
    rows = [
        row(""),
        row(id="good"),
        row("<image>", image="gone.png"),
        row("<image>", image="./coco//blue.png", id="too"),
    ]
    data = read(write(rows), images, skip_bad=True)
    assert [record.id for record in data] == ["good", "too"]
    assert [bad.number for bad in data.left_out] == [1, 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *((nothing, "no records to train on") for nothing in ("", "[]", " \n")),
        ([row("")], "record 1, line 1: "),
    ],
)
def test_a_file_without_records_is_refused(write: Write, content: Any, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        read(write(content), None, skip_bad=True)


def test_a_file_that_changes_during_a_run_is_noticed(write: Write) -> None:
    data = read(write([row()]), None)
    write([row(), row()])
    with pytest.raises(RecordError, match="changed since it was checked"):
        _ = data[0]


def test_the_fingerprint_tells_files_apart(write: Write) -> None:
    first, other = read(write([row()]), None), read(write([row("Ho")]), None)
    assert first.fingerprint != other.fingerprint == read(write([row("Ho")]), None).fingerprint


def test_a_dataset_travels_to_another_process(write: Write) -> None:
    data = read(write([row(id=1), row(id=2)]), None)
    copy = pickle.loads(pickle.dumps(data))
    assert list(copy) == list(data)
    assert np.array_equal(copy.table, data.table)
