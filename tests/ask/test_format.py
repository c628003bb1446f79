"""`mlx-llava ask` with a constrained answer: choices and JSON, for one question and for files of them."""

import json
from collections.abc import Callable
from pathlib import Path

import asking
import jsonschema
import pytest

from mlx_llava.errors import LimitError, UsageError

PHOTO, COLOR = asking.ONE, asking.QUESTION
SCHEMA = {
    "type": "object",
    "properties": {"color": {"enum": ["red", "blue"]}, "note": {"type": "string", "maxLength": 3}},
    "required": ["color", "note"],
    "additionalProperties": False,
}

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(run: asking.Run) -> Run:
    """Exit code and stdout."""
    return lambda *arguments: run(*arguments)[:2]


def test_an_answer_is_one_of_the_choices(run: Run) -> None:
    assert run(PHOTO, COLOR, "--choices", "blue, red,bright yellow") == (0, "red\n")


def test_log_probabilities_name_only_what_the_choices_allow(run: Run) -> None:
    code, out = run(PHOTO, COLOR, "--choices", "red,rot", "--logprobs")
    facts = json.loads(out)  # no infinite numbers, which JSON lacks
    assert (code, facts["finish"]) == (0, "stop")
    texts = {other["text"].strip() for token in facts["tokens"] for other in token["top"]}
    assert texts <= {"", "r", "re", "red", "ed", "e", "d", "ro", "rot", "o", "ot", "t", "</s>"}


@pytest.mark.parametrize("as_file", [True, False])
def test_an_answer_is_json_of_the_schema(run: Run, tmp_path: Path, as_file: bool) -> None:
    (tmp_path / "schema.json").write_text(json.dumps(SCHEMA))
    code, out = run(PHOTO, COLOR, "--schema", tmp_path / "schema.json" if as_file else json.dumps(SCHEMA))
    jsonschema.validate(json.loads(out), SCHEMA)
    assert (code, json.loads(out)["color"]) == (0, "red")


def test_a_json_answer_is_an_object(run: Run) -> None:
    code, out = run(PHOTO, COLOR, "--json-answer")
    assert (code, type(json.loads(out))) == (0, dict)


@pytest.mark.parametrize("flags", [(), ("--json",), ("--no-stream",)])
def test_an_answer_that_a_limit_cuts_is_printed_and_reported(
    run: Run, flags: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(LimitError, match="incomplete: it reached its limit of 5 tokens"):
        run(PHOTO, COLOR, "--schema", json.dumps(SCHEMA), "--max-tokens", "5", *flags)
    out = capsys.readouterr().out
    assert '{"c' in (json.loads(out)["text"] if "--json" in flags else out)


def test_flags_that_constrain_exclude_each_other(run: Run) -> None:
    for flags in (("--choices", "a,b", "--json-answer"), ("--json-answer", "--schema", "{}")):
        with pytest.raises(UsageError, match="exclude each other"):
            run(COLOR, *flags)


def test_answers_of_a_file_are_json_and_cut_ones_are_tried_again(run: Run, tmp_path: Path) -> None:
    questions, answers = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    rows = [{"question_id": n, "image": PHOTO.name, "text": text} for n, text in enumerate([COLOR, "Is it red?"])]
    questions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--questions", questions, "--answers", answers, "--image-folder", PHOTO.parent, "--schema")
    assert run(*flags, json.dumps(SCHEMA), "--max-tokens", "5") == (6, "")
    cut = [json.loads(line) for line in answers.read_text().splitlines()]
    assert ["incomplete" in row["error"] and "text" not in row for row in cut] == [True, True]
    assert run(*flags, json.dumps(SCHEMA)) == (0, "")
    texts = [row["text"] for row in map(json.loads, answers.read_text().splitlines()) if "text" in row]
    assert len(texts) == 2
    for text in texts:
        jsonschema.validate(json.loads(text), SCHEMA)


def test_answers_about_each_image_have_the_format_and_cut_ones_no_caption(run: Run, tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(PHOTO.read_bytes())
    each = ("--each", tmp_path, COLOR, "--write-captions")
    code, out = run(*each, "--schema", json.dumps(SCHEMA), "--max-tokens", "5")
    assert (code, ["incomplete" in json.loads(line)["error"] for line in out.splitlines()]) == (6, [True, True])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]
    code, out = run(*each, "--choices", "blue,red")
    assert (code, [json.loads(line)["text"] for line in out.splitlines()]) == (0, ["red", "red"])
    assert [(tmp_path / name).read_text() for name in ("a.txt", "b.txt")] == ["red\n", "red\n"]
