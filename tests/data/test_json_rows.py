"""Rows of files: all of them, at their offsets, and faults for broken ones."""

import io
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.data import json_rows as module
from mlx_llava.data.json_rows import BOM, Fault, Row, parse
from mlx_llava.errors import RecordError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def rows(data: bytes) -> list[Row]:
    return list(module.rows(io.BytesIO(data), Path("train.json")))


def values(data: bytes) -> list[Any]:
    """The values of all rows, or why they have none."""
    read = [row.fault or parse(data[row.offset : row.offset + row.size]) for row in rows(data)]
    return [str(value) if isinstance(value, Fault) else value for value in read]


@given(
    st.lists(JSON, max_size=6),
    st.booleans(),
    st.sampled_from([None, 1]),
    st.integers(1, 40),
    st.sampled_from([b"", BOM]),
)
def test_a_list_gives_its_rows_at_their_places_through_a_window_of_any_size(
    written: list[Any], escaped: bool, indent: int | None, window: int, bom: bytes
) -> None:
    data = bom + json.dumps(written, ensure_ascii=escaped, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "WINDOW", window)
        read = rows(data)
    assert [parse(data[row.offset : row.offset + row.size]) for row in read] == written
    assert [row.line for row in read] == [1 + data[: row.offset].count(b"\n") for row in read]
    assert [row.number for row in read] == list(range(1, len(written) + 1))


@given(st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3), min_size=1), st.booleans())
def test_lines_give_their_rows_at_their_places(written: list[Any], escaped: bool) -> None:
    data = BOM + "\r\n\n".join(json.dumps(row, ensure_ascii=escaped) for row in written).encode()
    read = rows(data)
    assert [parse(data[row.offset : row.offset + row.size]) for row in read] == written
    assert [row.line for row in read] == list(range(1, 2 * len(written), 2))


@given(st.binary(max_size=60) | st.binary(max_size=60).map(b"[".__add__))
def test_any_bytes_give_rows_or_faults_or_are_refused_as_a_whole(data: bytes) -> None:
    with suppress(RecordError):
        rows(data)


RECORD = {"id": 1, "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho\u2028\x85"}]}
PRETTY = json.dumps(RECORD, indent=1)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        *(
            (json.dumps([RECORD]).encode(code), "UTF-16 or UTF-32 text")
            for code in ("utf-16", "utf-16-be", "utf-32-le")
        ),
        (f"{PRETTY}\n".encode("utf-16"), "UTF-16 or UTF-32 text"),
        (PRETTY.encode(), "one JSON object, not a list or JSON lines: it runs over several lines"),
        (f"{PRETTY}\n{PRETTY}\n".encode(), "it runs over several lines"),
        (BOM + json.dumps({"data": [RECORD]}, indent=2).encode(), "its records are under 'data'"),
        (json.dumps({"train": [RECORD] * 9999}, indent=2).encode(), "its records are under 'train'"),
        (json.dumps({"version": 1, "data": [RECORD]}, indent=2).encode(), "it runs over several lines"),
        (b"id,question\n1,What?\n", "not JSON: it begins with 'id,question'"),
        (b"PAR1\x15\x04\x15\xc3\n", "not JSON: it begins with 'PAR1"),
        ("größe;farbe".encode(), "not JSON: it begins with 'größe;farbe'"),
    ],
)
def test_a_file_of_another_layout_is_refused_in_one_sentence(data: bytes, fault: str) -> None:
    with pytest.raises(RecordError) as raised:
        rows(data)
    assert raised.value.problem.startswith("train.json: ")
    assert fault in raised.value.problem
    assert raised.value.advice.startswith("Save ")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e", "\ufeff"])
def test_lines_end_at_newlines_alone(character: str) -> None:
    written = [{"text": f"What{character}is it?"}, {"text": character}]
    escaped = ord(character) < 32  # JSON strings hold no raw control characters
    assert values("\n".join(json.dumps(row, ensure_ascii=escaped) for row in written).encode()) == written


def test_files_with_byte_order_marks_may_be_joined() -> None:
    assert values((BOM + b'{"a": 1}\n') * 2) == [{"a": 1}] * 2


def test_a_broken_line_does_not_hide_the_others() -> None:
    assert values(b'{"a": 1}\n{"b": \n{"c": 3}\n\xff\n') == [
        {"a": 1},
        "not JSON: Expecting value",
        {"c": 3},
        "not UTF-8 at its byte 0",
    ]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"[1, 2", "not JSON: the list is cut off"),
        (b"[1, {]", "not JSON: Expecting property name enclosed in double quotes"),
        (b"[1 2]", "not JSON: Expecting ',' delimiter"),
        (b"[1, ]", "not JSON: Expecting value"),
        (b"[1] [2]", "there is text after the end of the list"),
        (b'[1, "\xff"]', "not UTF-8 at its byte 1"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" + b"9" * 5000 + b"]", "not JSON: Exceeds the limit"),
    ],
)
def test_a_broken_list_is_reported_where_it_breaks(data: bytes, fault: str) -> None:
    assert str(values(data)[-1]).startswith(fault)


def test_the_line_of_a_broken_list_is_that_of_the_break() -> None:
    assert [row.line for row in rows(b'[1,\n2,\n{"a":\n\n3 4}]')] == [1, 2, 5]


def test_a_row_of_ten_megabytes_is_read_and_one_larger_than_the_limit_is_refused() -> None:
    long = "é" * 5_000_000
    assert values(json.dumps([long, 1], ensure_ascii=False).encode()) == [long, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGEST", 1000)
        assert values(json.dumps([1, long]).encode())[-1].startswith("not JSON")
        lines = "\n".join(json.dumps({"a": text}) for text in ("x", long[:1001], long[:5000], "y"))
        assert values(lines.encode()) == [{"a": "x"}, *["longer than 1,000 bytes"] * 2, {"a": "y"}]
        assert [row.line for row in rows(lines.encode())] == [1, 2, 3, 4]
