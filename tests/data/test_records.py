"""One row, one record: what is accepted, and what is reported of the rest."""

import json
import math
from pathlib import Path
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


def test_the_records_in_the_documentation_are_records() -> None:
    page = (Path(__file__).parents[2] / "docs" / "train.md").read_text(encoding="utf-8")
    text, found = page.split("```json\n")[1].split("```")[0], list[Record]()
    while text.strip():
        row, end = json.JSONDecoder().raw_decode(text := text.strip())
        found.append(record(row))
        text = text[end:]
    assert [r.images for r in found] == [("cat.jpg",)] * 3
    assert {tuple(turn.parts()[:1]) for r in found for turn in r.turns} == {(IMAGE,)}


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
        (messages([{"type": "file"}], "b"), "messages[0].content[0] is neither a text nor an image part"),
        (messages([{"type": "image_url"}], "b"), "messages[0].content[0] names no file"),
        (llava("<image> a", "b"), "1 image mark in conversations, but no images"),
        (llava("<image> a", "b", image=None), "1 image mark in conversations, but no images"),
        (llava("a", "b", image="a.png"), "0 image marks in conversations, but 1 image"),
        (messages("<image> a", "b", images=["a", "b"]), "1 image mark in messages, but 2 images"),
        (llava("a", "b", image=math.nan), "image is nan, not a path"),
        (llava("<image>", "b", image=""), "image is '', which names no file"),
        (llava("<image>", "b", images=["a", " "]), "images is ['a', ' '], which names no file"),
        (llava("<image>", "b", images=[None]), "images is [None], not a path"),
        (llava("<image>", "b", image="https://a.b/c.png"), "image 'https://a.b/c.png' is an address, not a file"),
        (llava("<image>", "b", image="data:image/png;base64,iVBO"), "is data, not a file"),
        ({"data": [llava("a", "b")]}, "not a record: the records are under 'data'"),
        (llava("<image>", "b", image=[{"path": "a"}]), "image is [{'path': 'a'}], not a path"),
        (llava("<image>", "b", image="a", images=["a"]), "has both image and images"),
        (llava("<image>", "b", image="../secret.png"), "image '../secret.png' leads out of the image folder"),
        (llava("<image>", "b", image="a/../../b"), "leads out of the image folder"),
        (llava("<image>", "b", image="/images/../secret.png"), "leads out of the image folder"),
        (llava("a", "b", id=math.nan), "id is nan, not text or a whole number"),
        (llava("a", "b", id=["x"]), "id is ['x'], not text"),
        (llava("a", "b", id=["x" * 10**6]), "xxx..., not text"),
    ],
)
def test_a_bad_row_is_reported_by_its_field(row: Any, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        record(row)
    assert fault in str(raised.value)


def image(**keys: Any) -> dict[str, Any]:
    return {"type": "image", **keys}


def ask(*parts: Any, **more: Any) -> dict[str, Any]:
    """A row whose question has these parts and a text."""
    return messages([*parts, {"type": "text", "text": "What?"}], "A cat.", **more)


URL = {"type": "image_url", "image_url": {"url": "a.png", "detail": "high"}}


@pytest.mark.parametrize(
    ("row", "images"),
    [
        *((ask(part), ["a.png"]) for part in (image(image="a.png"), image(url="a.png"), image(path="a.png"), URL)),
        (ask({"type": "image_url", "image_url": "a.png"}), ["a.png"]),
        (ask(image(image="a.png", url=None, min_pixels=9)), ["a.png"]),
        (ask(image(image="file:///photos/a.png")), ["/photos/a.png"]),
        (ask(image(image="b"), image(image="a")), ["b", "a"]),
        (ask(image(image="b"), image(image="a"), images=["a", "b"]), ["b", "a"]),  # a part's own file is used
        (ask(image(image="a"), image(image="a"), images=["a"]), ["a", "a"]),
        (ask(image(), image(image="b"), images=["a", "b"]), ["a", "b"]),
        (ask(image(image="./a.png"), image="a.png"), ["a.png"]),
        (ask(image(), image(), images=["a", "b"]), ["a", "b"]),
        (ask(image(index=1, text=None), image(index=0), images=["a", "b"]), ["b", "a"]),
        (ask({"type": "text", "text": "<image>", "image": None}, image(), images=["a", "b"]), ["a", "b"]),
    ],
)
def test_every_mark_has_the_image_that_its_part_names(row: Any, images: list[str]) -> None:
    assert list(record(row).images) == images
    (turn,) = record(row).turns
    assert turn.parts().count(IMAGE) == len(images)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (ask(image(image="c"), images=["a"]), "messages shows the images ['c'], the row's list is ['a']"),
        (ask(image(image="a"), images=["a", "b"]), "messages shows the images ['a'], the row's list is ['a', 'b']"),
        (ask(image(), image(image="a"), images=["a", "b"]), "messages shows the images ['a'], the row's list"),
        (ask(image(), image(image="a")), "messages names the files of 1 of its 2 images"),
        (ask(image(image="a", path="b")), "messages[0].content[0] names two files, 'a' and 'b'"),
        (ask(image(image="")), "messages[0].content[0] names no file: ''"),
        (ask(image(image={"bytes": "iVBO"})), "messages[0].content[0] names no file: None"),
        (
            ask(image(source={"data": "iVBO"})),
            "messages[0].content[0] has source, and image files are read from image,",
        ),
        (ask(image(index=2), images=["a", "b"]), "messages shows the image of index 2, but the row lists 2"),
        (ask(image(index="0"), images=["a"]), "messages[0].content[0] has the index '0', not a whole number"),
        (ask(image(image="../a.png")), "image '../a.png' leads out of the image folder"),
        (ask(image(url="https://a.b/c.png")), "image 'https://a.b/c.png' is an address, not a file"),
        (
            ask({"type": "text", "text": "Hi", "image": "a.png"}),
            "messages[0].content[0] is neither a text nor an image",
        ),
        ({"messages": [{"role": "user", "content": "Hi", "images": ["a"]}]}, "messages[0] has images"),
    ],
)
def test_a_row_that_contradicts_itself_about_its_images_is_refused(row: Any, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        record(row)
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        *((llava("What?", "x", **{key: "a.mp4"}), f"has {key}") for key in ("video", "videos", "audio", "audios")),
        *(
            (llava(text, "x"), "conversations[0].value has a <video> mark")
            for text in ("<video>\nWhat?", "What? <video>")
        ),
        (messages("<audio>What?", "x"), "messages[0].content has a <audio> mark"),
        *((ask({"type": kind}), f"is a part of type {kind}") for kind in ("video", "video_url", "input_audio")),
        ({"messages": [{"role": "user", "content": "Hi", "video": "a.mp4"}]}, "messages[0] has video"),
    ],
)
def test_other_media_are_refused_by_name(row: Any, fault: str) -> None:
    with pytest.raises(Fault) as raised:
        record(row)
    assert fault in str(raised.value)
    assert raised.value.advice == "LLaVA trains on text and images."


@pytest.mark.parametrize("text", ["Why does <video> not play?", "<video>\n<source src='a.mp4'>\n</video>"])
def test_html_about_media_is_text(text: str) -> None:
    assert record(llava(text, "x", video=None, audios=[])).turns[0].question == (text,)
