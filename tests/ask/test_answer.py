"""One question: what is printed where, and what wrong input gets."""

import json
import os
import sys
from pathlib import Path

import pytest
from asking import ANSWER, ONE, QUESTION, THREE, Run
from spine import EMBEDDED, answer_of

from mlx_llava.errors import ImageError, LlavaError, NetworkError, UsageError

TURN = answer_of(ONE.name, QUESTION)
IMAGE = json.loads((EMBEDDED / "config.json").read_text())["image_token_index"]
PROMPT, OUT = TURN["prompt_tokens"], len(TURN["output_ids"])


@pytest.mark.parametrize(
    "words",
    [
        (ONE, QUESTION),
        ("--no-stream", ONE, QUESTION),
        (QUESTION, ONE),
        (QUESTION, "--image", ONE),
        ("-a", ONE, QUESTION),
        (ONE, "--max-tokens", "40", QUESTION),
        (QUESTION, "--max-tokens", "40", ONE),
    ],
)
def test_stdout_holds_the_answer_and_nothing_else(run: Run, words: tuple[str | Path, ...]) -> None:
    assert run(*words) == (0, f"{ANSWER}\n", "")


def test_a_name_with_another_kind_of_space_is_found(run: Run, tmp_path: Path) -> None:
    name = "Screenshot at 9.22.20\u202fPM.png"  # as macOS names them
    (tmp_path / name).write_bytes(ONE.read_bytes())
    typed = str(tmp_path / name.replace("\u202f", " "))
    assert run(typed, QUESTION)[1] == run("--image", typed, QUESTION)[1] == f"{ANSWER}\n"


def test_statistics_go_to_stderr(run: Run) -> None:
    for words in (("--stats", ONE, QUESTION), ("--stats", QUESTION, ONE)):
        code, out, err = run(*words)
        assert (code, out) == (0, f"{ANSWER}\n")
        assert f"{PROMPT} prompt tokens (64 of images), {OUT} out, stop" in err


@pytest.mark.parametrize("question", ["What color is the circle? " * 12, "Is this like cat.png"])
def test_a_question_may_be_long_or_end_like_a_file_name(run: Run, question: str) -> None:
    assert run(ONE, question, "--max-tokens", "2")[0] == 0


def test_the_question_may_come_on_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "question").write_text(QUESTION + "\n")
    with (tmp_path / "question").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert run(ONE)[1] == f"{ANSWER}\n"


def test_json_counts_what_was_computed(run: Run) -> None:
    facts = json.loads(run("--json", "--seed", "7", ONE, QUESTION)[1])
    assert (facts["text"], facts["finish"], facts["seed"]) == (ANSWER, "stop", 7)
    assert facts["counts"] == {"image": 64, "prompt": PROMPT, "prefilled": PROMPT, "output": OUT}
    assert facts["timing"].keys() == {"load", "vision", "prefill", "first_token", "tokens_per_second"}
    assert facts["images"][0]["path"] == str(ONE)
    assert facts["peak_memory"] > 0
    assert "prompt_ids" not in facts


def test_logprobs_show_the_prompt_as_the_model_saw_it_and_every_token(run: Run) -> None:
    facts = json.loads(run("--logprobs", ONE, THREE, "Is it red?", "--max-tokens", "3")[1])
    assert facts["prompt_ids"].count(IMAGE) == 2 * 64  # the image token, once for each feature row
    assert len(facts["prompt_ids"]) == facts["counts"]["prompt"]
    for token in facts["tokens"]:
        assert len(token["top"]) == 5
        assert token["top"][0] == {key: token[key] for key in ("id", "text", "logprob")}  # greedy


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["missing.png", QUESTION], ImageError, "missing.png: no such image"),
        (["one", "two"], UsageError, "2 questions"),
        ([str(EMBEDDED), QUESTION], ImageError, "a folder, not an image"),
        (["https://127.0.0.1/a.png", QUESTION], NetworkError, "not on the public internet"),
        (["--image", "ftp://example.org/a.png", QUESTION], NetworkError, "not a URL that begins with"),
        ([str(ONE), " \n"], UsageError, "blank"),
        ([str(ONE), QUESTION, "-p", "and?"], ImageError, "no such image"),
        (["-", "-", QUESTION], UsageError, "given 2 times"),
        (["--each", QUESTION], UsageError, "--each without images"),
        (["--each", "no/*.png", QUESTION], ImageError, "no/*.png: no image matches"),
        (["--each", "nofolder", "What?"], ImageError, "nofolder: no image matches"),
        (["--each", "What?", "no/folder"], ImageError, "no/folder: no image matches"),
        (["--each", str(ONE), QUESTION, "--json"], UsageError, "--json belongs to a single question"),
        (["--write-captions", QUESTION], UsageError, "--write-captions belongs to --each"),
        ([""], UsageError, "no question"),
        (["--temp", "-1", QUESTION], UsageError, "--temp -1"),
        (["--top-p", "0", QUESTION], UsageError, "--top-p 0"),
        (["--max-tokens", "0", QUESTION], UsageError, "--max-tokens 0"),
        (["--max-kv-size", "64", "--kv-bits", "8", QUESTION], UsageError, "exclude each other"),
        (["--template", "none", QUESTION], UsageError, "no prompt template 'none'"),
        (["--max-kv-size", "0", QUESTION], UsageError, "--max-kv-size 0"),
        (["--questions", "q.jsonl"], UsageError, "--questions without --answers"),
        (["--questions", "q", "--answers", "a", "--stats"], UsageError, "--stats belongs to a single question"),
        (
            ["--questions", "q", "--answers", "a", QUESTION],
            UsageError,
            "a question belongs to a single question and --each",
        ),
        (["--batch-size", "4", QUESTION], UsageError, "--batch-size belongs to --each and --questions"),
        (["--colour", QUESTION], UsageError, "--colour"),
        (["--seed", "x", QUESTION], UsageError, "--seed"),
    ],
)
def test_wrong_input_is_reported_in_two_lines(
    run: Run, arguments: list[str], error: type[LlavaError], words: str
) -> None:
    with pytest.raises(error) as raised:
        run(*arguments)
    assert words in raised.value.problem
    assert "\n" not in raised.value.problem + raised.value.advice
    assert raised.value.advice


def test_a_pipe_in_place_of_a_file_is_named_as_one(run: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # as `<(cat photo.png)` is
    for words in ((tmp_path / "pipe", QUESTION), ("--image", tmp_path / "pipe", QUESTION)):
        with pytest.raises(ImageError, match="pipe: not a regular file"):
            run(*words)
