"""Counts over records."""

from mlx_llava.data.records import Record
from mlx_llava.data.statistics import lines, statistics
from mlx_llava.prompts.templates import IMAGE, Turn

RECORDS = [
    Record("a", (Turn((IMAGE, "\nWhat is this?"), 0, "a red cat"), Turn(("what is that?",), 0, "no")), ("a.png",)),
    Record("b", (Turn((IMAGE, IMAGE), 0, "two"),), ("a.png", "b.png")),
    Record("c", (Turn(("Hi",), 0, "Ho"),)),
]


def test_everything_is_counted() -> None:
    counts = statistics(RECORDS)
    assert (counts.records, counts.turns, counts.images, counts.text_only) == (3, 4, 3, 1)
    assert counts.answer_words.tolist() == [3, 1, 1, 1]
    assert counts.prefixes == {"what is": 2, "": 1, "hi": 1}


def test_the_table_is_for_people() -> None:
    assert lines(statistics(RECORDS), num_prefixes=2) == [
        "records           3",
        "text only         1 (33.3%)",
        "images            3",
        "turns             4 (1.33 per record)",
        "words per answer  mean 1.5, median 1, 95% up to 3, longest 3",
        "  what is ...     2 (50.0% of the questions)",
        "  (no words) ...  1 (25.0% of the questions)",
    ]


def test_nothing_counts_as_nothing() -> None:
    assert lines(statistics([]))[0].split() == ["records", "0"]
