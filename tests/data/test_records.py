"""One row, one record: what is accepted, and what is reported of the rest."""

import math
from typing import Any

import pytest

from mlx_llava.data.json_rows import Fault
from mlx_llava.data.records import Record, record_of
from mlx_llava.prompts.templates import IMAGE, Turn


def llava(*values: Any, **more: Any) -> dict[str, Any]:
    """A row in LLaVA's format."""
    roles = ("human", "gpt") * len(values)
    turns = [{"from": role, "value": value} for role, value in zip(roles, values, strict=False)]
    return {"conversations": turns, **more}


def messages(*contents: Any, **more: Any) -> dict[str, Any]:
    """A row in the format of chat APIs."""
    roles = ("user", "assistant") * len(contents)
    rows = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=False)]
    return {"messages": rows, **more}


def before(row: dict[str, Any], message: dict[str, str]) -> dict[str, Any]:
    """The row with another message in front."""
    ((key, rows),) = row.items()
    return {key: [message, *rows]}


def record(row: Any) -> Record:
    return record_of(row, 7, "here")


BOTH = [{"type": "text", "text": "What?\n"}, {"type": "image"}]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (llava("One <image>, two\n<image>", "Yes.", image=["a", "b"]), (("One ", IMAGE, ", two\n", IMAGE), "Yes.")),
        (messages("What?\n<image>", "A cat.", images=["cat.jpg"]), (("What?\n", IMAGE), "A cat.")),
        (messages(BOTH, "A cat.", images=["cat.jpg"]), (("What?\n", IMAGE), "A cat.")),
        (messages("Differ?", "Yes.", images=["a", "b"]), ((IMAGE, "\n", IMAGE, "\n", "Differ?"), "Yes.")),
        (before(llava("Hi", "Ho"), {"from": "gpt", "value": "Welcome!"}), (("Hi",), "Ho")),  # dropped, as in LLaVA
    ],
    ids=["marks keep their place", "text", "parts", "images without marks come first", "an answer comes first"],
)
def test_a_turn_has_text_and_image_marks_in_order(row: Any, expected: tuple[tuple[Any, ...], str]) -> None:
    (turn,) = record(row).turns
    assert (tuple(turn.parts()), turn.answer) == expected


@pytest.mark.parametrize(
    ("row", "field", "value"),
    [
        (before(messages("Hi", "Ho"), {"role": "system", "content": "Be brief."}), "system", "Be brief."),
        *((llava("Hi", "Ho", **nothing), "images", ()) for nothing in ({}, {"image": None}, {"images": []})),
        (llava("<image>", "b", image="a..b/c...png"), "images", ("a..b/c...png",)),
        *((llava("Hi", "Ho", id=own), "id", expected) for own, expected in ((5, "5"), ("5", "5"), (None, "7"))),
        (llava("Hi", "Ho"), "id", "7"),
    ],
)
def test_a_good_row_gives_its_record(row: Any, field: str, value: Any) -> None:
    assert getattr(record(row), field) == value


def test_a_record_of_llava() -> None:
    row = llava("<image>\nWhat?", "A cat.", "Sure?", "Yes.", id="000", image="coco/cat.jpg", model="gpt4")
    turns = (Turn((IMAGE, "\nWhat?"), 0, "A cat."), Turn(("Sure?",), 0, "Yes."))
    assert record(row) == Record("000", turns, ("coco/cat.jpg",), None, "here")


def test_a_length_counts_words_and_is_negative_without_an_image() -> None:
    values = ("<image>\nWhat  is this?", "A cat.", "Sure?", "Yes, quite sure.")
    words = sum(len(value.split()) for value in values)  # as modality_lengths of LLaVA's train.py
    assert record(llava(*values, image="a.png")).length() == words
    assert record(llava(values[2], values[3])).length() == -4


HALF = "\ud83d"  # of an emoji: json reads it
ANSWER_FIRST = {"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}
LATE_SYSTEM = {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([], "not an object"),
        ({"text": "x", "id": 3}, "needs either conversations or messages, has text, id"),
        ({**llava("a", "b"), **messages("a", "b")}, "needs either conversations or messages"),
        ({"conversations": "Hi"}, "conversations is not a list of messages"),
        ({"messages": []}, "messages is not a list of messages"),
        ({"messages": ["Hi"]}, "messages[0] is not an object"),
        ({"conversations": [{"from": "bing", "value": "x"}]}, "conversations[0].from is 'bing', not human or gpt"),
        (ANSWER_FIRST, "conversations[1].from is human a second time"),
        (LATE_SYSTEM, "messages[1].role is 'system', not user or assistant"),
        (llava("a"), "conversations ends without an answer"),
        (llava("a", "b", "c"), "conversations ends without an answer"),
        (llava("", "b"), "conversations[0].value is empty"),
        (llava("a", " \n"), "conversations[1].value is empty"),
        (llava("a", None), "conversations[1].value is not text"),
        (llava("a", math.nan), "conversations[1].value is not text"),
        (llava("a", f"b{HALF}"), "conversations[1].value has half a character at 1"),
        (llava("a", "<image>", image="a"), "conversations[1].value has an image mark, and only questions"),
        (messages([{"type": "image_url"}], "b"), "messages[0].content[0] is neither a text nor an image part"),
        (llava("<image> a", "b"), "image marks in conversations: 1, images in image: 0"),
        (llava("a", "b", image="a.png"), "image marks in conversations: 0, images in image: 1"),
        (messages("<image> a", "b", images=["a", "b"]), "image marks in messages: 1, images in image: 2"),
        (llava("a", "b", image=math.nan), "image is nan, not a path"),
        (llava("<image>", "b", image=""), "image is '', not a path"),
        (llava("<image>", "b", image=[{"path": "a"}]), "image is [{'path': 'a'}], not a path"),
        (llava("<image>", "b", image="a", images=["a"]), "has both image and images"),
        (llava("<image>", "b", image="../secret.png"), "image '../secret.png' leads out of the image folder"),
        (llava("<image>", "b", image="a/../../b"), "leads out of the image folder"),
        (llava("<image>", "b", image="/etc/passwd"), "leads out of the image folder"),
        (llava("a", "b", id=math.nan), "id is nan, not text or a whole number"),
        (llava("a", "b", id=["x"]), "id is ['x'], not text"),
        (llava("a", "b", id=["x" * 10**6]), "xxx..., not text"),
    ],
)
def test_a_bad_row_is_reported_by_its_field(row: Any, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        record(row)
    assert fault in str(raised.value)
