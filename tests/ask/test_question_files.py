"""`ask --questions`: files of questions."""

import json
from pathlib import Path
from typing import Any

import pytest
from asking import ANSWER, ONE, QUESTION, Run
from spine import EMBEDDED, answer_of, recorded

from mlx_llava.errors import UsageError


def write_questions(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_answers(path: Path) -> dict[Any, dict[str, Any]]:
    return {row["question_id"]: row for row in map(json.loads, path.read_text().splitlines())}


SINGLE = [record for record in recorded() if len(record["turns"]) == 1]


def test_a_file_of_questions_gets_each_picture_s_own_answer(run: Run, tmp_path: Path) -> None:
    rows = [
        {"question_id": n, "image": record["image"], "text": record["turns"][0]["question"]}
        for n, record in enumerate(SINGLE)
    ]
    write_questions(tmp_path / "q.jsonl", rows)
    files = ("--questions", tmp_path / "q.jsonl", "--answers", tmp_path / "a.jsonl")
    code, out, _ = run(*files, "--image-folder", EMBEDDED / "examples", "--decoding", "training", "--batch-size", "5")
    assert (code, out) == (0, "")
    answers = read_answers(tmp_path / "a.jsonl")
    assert [answers[n]["text"] for n in range(len(rows))] == [record["turns"][0]["answer"] for record in SINGLE]
    assert answers[0]["prompt"] == rows[0]["text"]


def test_a_failing_row_is_recorded_and_tried_again_by_the_next_run(run: Run, tmp_path: Path) -> None:
    rows = [
        {"question_id": "a", "image": "later.png", "text": QUESTION},
        {"question_id": "b", "image": "one_shape.png", "text": QUESTION},
        {"question_id": "c", "text": 5},
        {"question_id": "d", "image": "", "text": QUESTION},
        {"question_id": "e", "image": "one_shape.png", "text": " "},
    ]
    (tmp_path / "one_shape.png").write_bytes(ONE.read_bytes())
    write_questions(tmp_path / "q.jsonl", rows)
    files = ("--questions", tmp_path / "q.jsonl", "--answers", tmp_path / "a.jsonl")
    code, _, err = run(*files)
    assert code == 6
    assert "question a: " in err
    answers = read_answers(tmp_path / "a.jsonl")
    assert "later.png" in answers["a"]["error"]
    assert answers["b"]["text"] == ANSWER
    problems = [answers[row]["error"] for row in "cde"]
    assert problems == ["text or image is not text", "image is an empty file name", "the question is blank"]

    (tmp_path / "later.png").write_bytes(ONE.read_bytes())
    with (tmp_path / "a.jsonl").open("a") as torn:
        torn.write('{"question_id": "a", "te')  # killed while writing
    code, _, err = run(*files)
    assert code == 6  # c, d and e are still wrong
    assert "4 of 5 questions to answer" in err
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line).get("text") for line in lines if '"a"' in line] == [None, ANSWER]
    assert sum('"b"' in line for line in lines) == 1


def test_one_id_may_have_two_questions(run: Run, tmp_path: Path) -> None:
    questions = [QUESTION, "How many things are there?"]
    write_questions(tmp_path / "q.jsonl", [{"question_id": "x", "image": str(ONE), "text": q} for q in questions])
    for _ in range(2):  # as MME has it; nothing is left for the second run
        run("--questions", tmp_path / "q.jsonl", "--answers", tmp_path / "a.jsonl")
    rows = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert [row["text"] for row in rows] == [answer_of(ONE.name, question)["answer"] for question in questions]


@pytest.mark.parametrize(
    ("answers", "words"),
    [("q.jsonl", "of their own"), ("/dev/null", "not a file of answers"), ("no/a.jsonl", "no such folder")],
)
def test_answers_go_to_a_file_of_their_own(run: Run, tmp_path: Path, answers: str, words: str) -> None:
    write_questions(tmp_path / "q.jsonl", [{"question_id": 1, "text": "a"}])
    with pytest.raises(UsageError, match=words):
        run("--questions", tmp_path / "q.jsonl", "--answers", tmp_path / answers)
