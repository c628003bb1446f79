"""Which rows of a question file an earlier run has answered."""

import json
from pathlib import Path
from typing import Any

import pytest

from mlx_llava.inference.question_file import QuestionFile, open_files

OLD = {"question_id": 1, "prompt": "Q", "text": "yes"}  # before answers recorded their images


@pytest.mark.parametrize(
    ("rows", "answers", "waiting"),
    [
        ([("a.png", "Q"), ("b.png", "Q")], [], [0, 1]),
        ([("a.png", "Q"), ("b.png", "Q")], [{**OLD, "image": "a.png"}], [1]),
        ([("a.png", "Q"), ("b.png", "Q")], [{**OLD, "image": "b.png"}, {**OLD, "image": "a.png"}], []),
        ([("a.png", "Q"), ("b.png", "Q")], [OLD], [0, 1]),  # nobody knows of which
        ([("a.png", "Q"), ("b.png", "R")], [OLD], [1]),
        ([(None, "Q")], [OLD], []),
        ([(None, "Q"), (None, "Q")], [OLD], []),
        ([(None, "Q")], [{**OLD, "image": None}], []),
        ([("a.png", "Q")], [{**OLD, "image": None}], [0]),
        ([(["a.png", "b.png"], "Q"), (["b.png", "a.png"], "Q")], [{**OLD, "image": ["a.png", "b.png"]}], [1]),
        ([("a.png", "Q")], [{"question_id": 1, "image": "a.png", "error": "no such file"}], [0]),
        ([("a.png", "Q")], [{**OLD, "question_id": "1"}], [0]),
    ],
)
def test_an_answer_counts_for_the_row_with_its_id_text_and_images(
    tmp_path: Path, rows: list[tuple[Any, str]], answers: list[dict[str, Any]], waiting: list[int]
) -> None:
    questions = [{"question_id": 1, "image": image, "text": text} for image, text in rows]
    for name, lines in (("q", questions), ("a", answers)):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in lines))
    left, _ = open_files(QuestionFile(tmp_path / "q", tmp_path / "a", tmp_path, "display", 8))
    assert left == [questions[n] for n in waiting]
