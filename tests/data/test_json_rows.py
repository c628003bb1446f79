"""Rows of files: all of them, at their offsets, and faults for broken ones."""

import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.data import json_rows as module
from mlx_llava.data.json_rows import BOM, Fault, parse, rows

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


def values(data: bytes) -> list[Any]:
    return [str(row.value) if isinstance(row.value, Fault) else row.value for row in rows(io.BytesIO(data))]


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
        read = list(rows(io.BytesIO(data)))
    assert [row.value for row in read] == written
    assert [parse(data[row.offset : row.offset + row.size]) for row in read] == written
    assert [row.line for row in read] == [1 + data[: row.offset].count(b"\n") for row in read]
    assert [row.number for row in read] == list(range(1, len(written) + 1))


@given(st.lists(st.dictionaries(st.text(st.characters(codec="utf-8")), JSON, max_size=3), min_size=1), st.booleans())
def test_lines_give_their_rows_at_their_places(written: list[Any], escaped: bool) -> None:
    data = BOM + "\r\n\n".join(json.dumps(row, ensure_ascii=escaped) for row in written).encode()
    read = list(rows(io.BytesIO(data)))
    assert [row.value for row in read] == written
    assert [parse(data[row.offset : row.offset + row.size]) for row in read] == written
    assert [row.line for row in read] == list(range(1, 2 * len(written), 2))


@given(st.binary(max_size=60) | st.binary(max_size=60).map(b"[".__add__))
def test_any_bytes_give_rows_or_faults_and_never_an_exception(data: bytes) -> None:
    list(rows(io.BytesIO(data)))


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
    assert [row.line for row in rows(io.BytesIO(b'[1,\n2,\n{"a":\n\n3 4}]'))] == [1, 2, 5]


def test_a_row_of_ten_megabytes_is_read_and_one_larger_than_the_limit_is_refused() -> None:
    long = "é" * 5_000_000
    assert values(json.dumps([long, 1], ensure_ascii=False).encode()) == [long, 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LARGEST", 1000)
        assert values(json.dumps([1, long]).encode())[-1].startswith("not JSON")
