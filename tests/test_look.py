"""`mlx-llava look`: data as the model sees it."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from spine import EMBEDDED

from mlx_llava.errors import UsageError
from mlx_llava.look import LookOptions, look

ROWS = [
    {
        "id": "a",
        "image": "one_shape.png",
        "conversations": [
            {"from": "human", "value": "What color is the circle?\n<image>"},
            {"from": "gpt", "value": "red"},
            {"from": "human", "value": "Is it </s> <b>?"},
            {"from": "gpt", "value": "yes"},
        ],
    },
    {"id": 2, "conversations": [{"from": "human", "value": "How many?"}, {"from": "gpt", "value": "two"}]},
]


@pytest.fixture
def options(converted: Callable[[Path], Path], tmp_path: Path) -> LookOptions:
    (tmp_path / "train.json").write_text(json.dumps(ROWS))
    return LookOptions(data=tmp_path / "train.json", images=EMBEDDED / "examples", model=str(converted(EMBEDDED)))


def test_trained_text_is_marked_and_images_are_collapsed(
    options: LookOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    look(options)
    out = capsys.readouterr().out
    assert "USER: [image 1: 64 tokens]⏎\nWhat color is the circle? ASSISTANT:【 red</s>】USER: Is it </s> <b>?" in out
    assert "USER: How many? ASSISTANT:【 two</s>】" in out
    assert "% padding" in out.splitlines()[0]


def test_the_page_is_self_contained_and_shows_the_images(options: LookOptions, tmp_path: Path) -> None:
    look(replace(options, html=tmp_path / "page.html"))
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") == 1
    assert "<b>?" not in page  # what the data says is text, not markup
    assert "http" not in page
    assert '<span class="trained"> red&lt;/s&gt;</span>' in page


def test_counts_are_of_all_records(options: LookOptions, capsys: pytest.CaptureFixture[str]) -> None:
    look(replace(options, stats=True))
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["records", "2"]


def test_a_record_that_is_not_there_is_refused(options: LookOptions) -> None:
    with pytest.raises(UsageError, match="no record to show, the last is number 2"):
        look(replace(options, first=3))
