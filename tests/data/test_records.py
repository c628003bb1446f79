"""One row, one record: what is accepted, and what is said of the rest."""

import math
from typing import Any

import pytest

from mlx_llava.data.json_rows import Fault
from mlx_llava.data.records import Record, record_of
from mlx_llava.prompts.templates import IMAGE, Turn


def said(*values: Any, **more: Any) -> dict[str, Any]:
    """A row in LLaVA's form."""
    people = ("human", "gpt") * len(values)
    return {
        "conversations": [{"from": who, "value": value} for who, value in zip(people, values, strict=False)],
        **more,
    }


def messages(*contents: Any, **more: Any) -> dict[str, Any]:
    """A row in the form of chat APIs."""
    roles = ("user", "assistant") * len(contents)
    rows = [{"role": who, "content": content} for who, content in zip(roles, contents, strict=False)]
    return {"messages": rows, **more}


def record(row: Any) -> Record:
    return record_of(row, 7, "here")


def test_a_record_of_llava() -> None:
    row = said("<image>\nWhat?", "A cat.", "Sure?", "Yes.", id="000", image="coco/cat.jpg", model="gpt4")
    turns = (Turn((IMAGE, "\nWhat?"), 0, "A cat."), Turn(("Sure?",), 0, "Yes."))
    assert record(row) == Record("000", turns, ("coco/cat.jpg",), None, "here")


def test_image_marks_stay_where_they_are_written() -> None:
    row = said("One <image>, two\n<image>", "Yes.", image=["a.png", "b.png"])
    assert record(row).turns == (Turn(("One ", IMAGE, ", two\n", IMAGE), 0, "Yes."),)


@pytest.mark.parametrize(
    "content", ["What?\n<image>", [{"type": "text", "text": "What?\n"}, {"type": "image"}], ["What?\n<image>"][0]]
)
def test_contents_are_text_or_parts(content: Any) -> None:
    assert record(messages(content, "A cat.", images=["cat.jpg"])).turns == (Turn(("What?\n", IMAGE), 0, "A cat."),)


def test_pictures_of_messages_without_marks_stand_in_front() -> None:
    assert record(messages("Differ?", "Yes.", images=["a", "b"])).turns[0].parts() == [
        IMAGE,
        "\n",
        IMAGE,
        "\n",
        "Differ?",
    ]


def test_a_system_message_replaces_the_templates() -> None:
    row = messages("Hi", "Ho")
    row["messages"].insert(0, {"role": "system", "content": "Be brief."})
    assert record(row).system == "Be brief."


def test_what_is_said_before_the_first_question_is_dropped_as_llava_does() -> None:
    row = said("Hi", "Ho")
    row["conversations"].insert(0, {"from": "gpt", "value": "Welcome!"})
    assert record(row).turns == (Turn(("Hi",), 0, "Ho"),)


@pytest.mark.parametrize("nothing", [{}, {"image": None}, {"images": []}])
def test_a_record_without_pictures_is_text_only(nothing: dict[str, Any]) -> None:
    assert record(said("Hi", "Ho", **nothing)).images == ()


@pytest.mark.parametrize(("given", "kept"), [({"id": 5}, "5"), ({"id": "5"}, "5"), ({}, "7"), ({"id": None}, "7")])
def test_ids_are_text_or_numbers_or_absent(given: dict[str, Any], kept: str) -> None:
    assert record(said("Hi", "Ho", **given)).id == kept


def test_a_length_counts_words_and_is_negative_without_a_picture() -> None:
    values = ("<image>\nWhat  is this?", "A cat.", "Sure?", "Yes, quite sure.")
    words = sum(len(value.split()) for value in values)  # as modality_lengths of LLaVA's train.py
    assert record(said(*values, image="a.png")).length() == words
    assert record(said(values[2], values[3])).length() == -4


HALF = "\ud83d"  # of an emoji: json reads it
ANSWER_FIRST = {"conversations": [{"from": "human", "value": "a"}, {"from": "human", "value": "b"}]}
LATE_SYSTEM = {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ([], "not an object"),
        ({"text": "x", "id": 3}, "needs either conversations or messages, has text, id"),
        ({**said("a", "b"), **messages("a", "b")}, "needs either conversations or messages"),
        ({"conversations": "Hi"}, "conversations is not a list of messages"),
        ({"messages": []}, "messages is not a list of messages"),
        ({"messages": ["Hi"]}, "messages[0] is not an object"),
        ({"conversations": [{"from": "bing", "value": "x"}]}, "conversations[0].from is 'bing', not human or gpt"),
        (ANSWER_FIRST, "conversations[1].from is human a second time"),
        (LATE_SYSTEM, "messages[1].role is 'system', not user or assistant"),
        (said("a"), "conversations ends without an answer"),
        (said("a", "b", "c"), "conversations ends without an answer"),
        (said("", "b"), "conversations[0].value is empty"),
        (said("a", " \n"), "conversations[1].value is empty"),
        (said("a", None), "conversations[1].value is not text"),
        (said("a", math.nan), "conversations[1].value is not text"),
        (said("a", f"b{HALF}"), "conversations[1].value has half a character at 1"),
        (said("a", "<image>", image="a"), "conversations[1].value has an image mark, and only questions"),
        (messages([{"type": "image_url"}], "b"), "messages[0].content[0] is neither a text nor an image part"),
        (said("<image> a", "b"), "image marks in conversations: 1, images in image: 0"),
        (said("a", "b", image="a.png"), "image marks in conversations: 0, images in image: 1"),
        (messages("<image> a", "b", images=["a", "b"]), "image marks in messages: 1, images in image: 2"),
        (said("a", "b", image=math.nan), "image is nan, not a path"),
        (said("<image>", "b", image=""), "image is '', not a path"),
        (said("<image>", "b", image=[{"path": "a"}]), "image is [{'path': 'a'}], not a path"),
        (said("<image>", "b", image="a", images=["a"]), "has both image and images"),
        (said("<image>", "b", image="../secret.png"), "image '../secret.png' leads out of the image folder"),
        (said("<image>", "b", image="a/../../b"), "leads out of the image folder"),
        (said("<image>", "b", image="/etc/passwd"), "leads out of the image folder"),
        (said("a", "b", id=math.nan), "id is nan, not text or a whole number"),
        (said("a", "b", id=["x"]), "id is ['x'], not text"),
        (said("a", "b", id=["x" * 10**6]), "xxx..., not text"),
    ],
)
def test_a_bad_row_is_told_by_its_field(row: Any, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        record(row)
    assert fault in str(raised.value)


def test_a_name_with_two_dots_inside_is_a_name() -> None:
    assert record(said("<image>", "b", image="a..b/c...png")).images == ("a..b/c...png",)
