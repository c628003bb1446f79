"""Question and answer files, however they were left."""

import json
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.errors import UsageError
from mlx_llava.inference.json_lines import AnswerFile, read_rows

ROWS = [{"question_id": n, "text": f"answer {n}"} for n in range(3)]
LINES = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


@given(st.text())
def test_any_text_within_a_row_is_read_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("rows") / "q.jsonl"
    row = {"question_id": 1, "text": f"a{text}\u2028\u2029\x85b"}
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode() + b"\r\n\n")
    assert read_rows(path) == [row]


@pytest.mark.parametrize("cut", range(len(LINES) + 1))
def test_a_file_cut_anywhere_continues_with_its_whole_rows_any_number_of_times(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES[:cut])
    for _ in range(3):
        out = AnswerFile(path)
        assert out.rows == ROWS[: len(out.rows)]
        with out:
            for row in ROWS[len(out.rows) :]:
                out.append(row)
    assert path.read_bytes() == LINES


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'{"question_id": 1}\n{"question', "line 2 is not JSON"),
        (b"[1]\n", "line 1 is not an object"),
        (b'{"a": "\xff"}\n', "line 1 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "line 1 is not UTF-8"),
        (b"[" * 100_000, "line 1 is not JSON"),
    ],
)
def test_a_file_of_questions_that_is_not_json_lines_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "q.jsonl").write_bytes(data)
    with pytest.raises(UsageError, match=words):
        read_rows(tmp_path / "q.jsonl")


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_bytes(b"\xef\xbb\xbf" + LINES)
    assert read_rows(tmp_path / "q.jsonl") == ROWS


def test_a_file_without_room_is_named_and_keeps_its_whole_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(LINES) - 5, limits[1]))
    try:
        with AnswerFile(path) as out:
            for row in ROWS[:-1]:
                out.append(row)
            with pytest.raises(OSError, match="too large") as raised:
                out.append(ROWS[-1])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.filename == str(path)
    assert AnswerFile(path).rows == ROWS[:-1]
