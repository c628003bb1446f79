"""The images of records, stored as numbers: what comes out is what went in."""

import pickle
from itertools import chain

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.data.image_table import ImageTable

NAMES = st.sampled_from(["a.png", "b/c.jpg", "é.png", "\0", "\ud800", "漢", ""])
RECORDS = st.lists(st.lists(NAMES, max_size=3), max_size=8)


def table_of(records: list[list[str]]) -> ImageTable:
    names = dict[str, int]()
    shown = [names.setdefault(name, len(names)) for record in records for name in record]
    return ImageTable.of(names, np.array(shown, np.int32), np.array([*map(len, records)], np.int32))


@given(RECORDS, st.sets(st.integers(0, 7)))
def test_a_table_holds_what_the_records_show(records: list[list[str]], left_out: set[int]) -> None:
    table = pickle.loads(pickle.dumps(table_of(records)))
    left = table.without(n for n in left_out if n < len(records))
    kept = [record for n, record in enumerate(records) if n not in left_out]
    assert len(left) == len(kept)
    names = left.names()
    used = {*chain(*kept)}
    assert [*names.values()] == [name for name in dict.fromkeys(chain(*records)) if name in used]
    for number, name in names.items():
        users = [(index, number) for index, record in enumerate(kept) for shown in record if shown == name]
        assert [*left.users([number])] == users
    assert [(index, names[number]) for index, number in left.users(names)] == [
        (index, name) for index, record in enumerate(kept) for name in record
    ]
