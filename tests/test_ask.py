"""`mlx-llava ask` as a program: what it prints where, and how it ends."""

import json
import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from spine import EMBEDDED, answer_of, recorded

from mlx_llava.ask import AskOptions, ask
from mlx_llava.errors import ImageError, LlavaError, NetworkError, UsageError
from mlx_llava.images import fetch
from mlx_llava.inference import generate
from mlx_llava.inference.sampling import Token
from mlx_llava.program.options import parse

ONE, THREE = EMBEDDED / "examples" / "one_shape.png", EMBEDDED / "examples" / "three_shapes.png"
QUESTION, DESCRIBE = "What color is the circle?", "Describe the picture."
TURN = answer_of(ONE.name, QUESTION)
IMAGE = json.loads((EMBEDDED / "config.json").read_text())["image_token_index"]
ANSWER, PROMPT, OUT = TURN["answer"], TURN["prompt_tokens"], len(TURN["output_ids"])

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(converted: Callable[[Path], Path], capsys: pytest.CaptureFixture[str]) -> Run:
    """Ask in this process: exit code, stdout, stderr."""
    model = str(converted(EMBEDDED))

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        code = ask(parse(AskOptions, "mlx-llava ask", ["--model", model, *map(str, arguments)]))
        out, err = capsys.readouterr()
        return code, out, err

    return call


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


# ---------------------------------------------------------------- standard input


@pytest.mark.parametrize(
    ("words", "stdin", "expected"),
    [
        ((QUESTION,), ONE.read_bytes(), ANSWER),
        (("-", QUESTION), ONE.read_bytes(), ANSWER),
        (("--image", "-", QUESTION), ONE.read_bytes(), ANSWER),
        ((ONE,), QUESTION.encode(), ANSWER),
        ((ONE, "-"), QUESTION.encode() + b"\n", ANSWER),
        ((ONE, "-p", "-"), QUESTION.encode(), ANSWER),
        ((ONE, "-p", QUESTION), b"", ANSWER),
        ((ONE,), b"\xef\xbb\xbf" + QUESTION.encode(), ANSWER),
        ((ONE, QUESTION), b"", ANSWER),
        ((ONE, QUESTION), b"and what else?", "text on standard input"),
        ((QUESTION,), b"and what else?", "text on standard input"),
        (("--image", "-", QUESTION), b"and what else?", "standard input"),
        ((ONE,), b"\xff\xfeW\0h\0", "neither an image nor UTF-8"),
        ((QUESTION,), ONE.read_bytes()[:300], "standard input: the image is damaged"),
        ((ONE,), b" \n", "no question"),
        ((ONE, QUESTION, "-"), b"", "standard input, which is empty"),
    ],
)
def test_standard_input_is_an_image_or_a_question_by_its_content(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: tuple[str | Path, ...],
    stdin: bytes,
    expected: str,
) -> None:
    (tmp_path / "stdin").write_bytes(stdin)
    with (tmp_path / "stdin").open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        if expected == ANSWER:
            assert run(*words) == (0, f"{ANSWER}\n", "")
        else:
            with pytest.raises(LlavaError, match=expected):
                run(*words)


# ---------------------------------------------------------------- each image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("b.png", "a.PNG", "._a.png", "notes.md"):
        (folder / name).write_bytes(ONE.read_bytes())
    (folder / "cut.png").write_bytes(ONE.read_bytes()[:200])
    (folder / "below").mkdir()
    (folder / "below" / "c.png").write_bytes(THREE.read_bytes())
    return folder


def names_of(lines: str) -> list[str]:
    return [Path(json.loads(line)["path"]).name for line in lines.splitlines()]


def test_each_image_is_asked_about_alone_with_one_line_each(run: Run, photos: Path) -> None:
    code, out, err = run("--each", photos, QUESTION, "--batch-size", "2")
    assert (code, names_of(out)) == (6, ["a.PNG", "b.png", "cut.png"])
    first, second, cut = map(json.loads, out.splitlines())
    assert first["text"] == second["text"] == ANSWER
    assert "cut.png" in cut["error"]
    assert "3 of 3 done, 1 failed" in err
    twice = photos / "below" / ".." / "b.png"
    assert names_of(run("--each", photos / "**" / "[bc].png", twice, QUESTION)[1]) == ["b.png", "c.png"]


def test_answers_about_each_image_continue_by_path_and_question(run: Run, photos: Path, tmp_path: Path) -> None:
    answers = ("--answers", tmp_path / "a.jsonl")
    assert run("--each", photos, QUESTION, *answers)[0] == 6
    (photos / "cut.png").write_bytes(THREE.read_bytes())
    code, out, err = run("--each", photos, QUESTION, *answers)
    assert (code, out) == (0, "")
    assert "1 of 3 images" in err
    run("--each", photos, DESCRIBE, *answers, "--max-tokens", "2")
    assert names_of((tmp_path / "a.jsonl").read_text()) == [
        "a.PNG",
        "b.png",
        "cut.png",
        "cut.png",
        "a.PNG",
        "b.png",
        "cut.png",
    ]
    run("--each", photos, QUESTION, *answers, "--write-captions")  # from the recorded answers
    assert (photos / "a.txt").read_text() == f"{ANSWER}\n"


class PhotoHandler(SimpleHTTPRequestHandler):
    """Serves an image, whatever is asked for."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ONE.read_bytes())

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_images_are_fetched_from_addresses(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "is_public", lambda address, local: address == "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), PhotoHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/photo.png"
        assert run(url, QUESTION) == (0, f"{ANSWER}\n", "")
        code, out, _ = run("--each", url, QUESTION)
        server.shutdown()
    assert (code, [(row["path"], row["text"]) for row in map(json.loads, out.splitlines())]) == (0, [(url, ANSWER)])


def test_captions_are_written_beside_images_and_never_over_a_file(run: Run, photos: Path) -> None:
    (photos / "b.txt").write_text("mine")
    assert run("--each", photos, QUESTION, "--write-captions")[0] == 6
    assert (photos / "a.txt").read_text() == f"{ANSWER}\n"
    assert (photos / "b.txt").read_text() == "mine"
    assert not (photos / "cut.txt").exists()
    assert "1 of 3 images" in run("--each", photos, QUESTION, "--write-captions")[2]
    (photos / "9\u202fPM.png").write_bytes(ONE.read_bytes())
    assert run("--each", photos / "9 PM.png", QUESTION, "--write-captions")[0] == 0
    assert (photos / "9\u202fPM.txt").read_text() == f"{ANSWER}\n"
    (photos / "b.jpg").write_bytes(ONE.read_bytes())
    with pytest.raises(UsageError, match="the same caption file"):
        run("--each", photos, QUESTION, "--write-captions")
    with pytest.raises(UsageError, match="not a suffix for captions"):
        run("--each", photos / "a.PNG", QUESTION, "--write-captions", ".png")


# ---------------------------------------------------------------- question files


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


# ---------------------------------------------------------------- as a process


def start(*arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mlx_llava", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_the_bundled_model_answers_by_default(tmp_path: Path) -> None:
    environment = {**os.environ, "MLX_LLAVA_HOME": str(tmp_path)}
    for _ in range(2):  # converted on first use, found on the second
        process = start("ask", ONE, QUESTION, env=environment)
        out, err = process.communicate()
        assert (process.returncode, out) == (0, f"{ANSWER}\n"), err
    (folder,) = (tmp_path / "cache").iterdir()
    (folder / "model.safetensors").write_bytes(b"damaged")
    process = start("ask", ONE, QUESTION, env=environment)
    assert process.communicate()[0] == f"{ANSWER}\n"  # converted again


def test_odd_names_and_closed_streams_are_handled(converted: Callable[[Path], Path], tmp_path: Path) -> None:
    name = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Path(name).write_bytes(ONE.read_bytes())
    model = converted(EMBEDDED)
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict", "PYTHONUTF8": "0"}
    for command in ("ask --json --model {} {}", "ask --model {} {} <&-", "--help | true"):
        line = command.format(shlex.quote(str(model)), f"{shlex.quote(name)} {shlex.quote(QUESTION)}")
        call = f"{shlex.quote(sys.executable)} -m mlx_llava {line}"
        done = subprocess.run(["bash", "-c", call], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stderr) == (0, ""), command


def test_an_answer_that_cannot_be_printed_is_an_error(converted: Callable[[Path], Path]) -> None:
    words = map(shlex.quote, [sys.executable, "-m", "mlx_llava", "ask", "--model", str(converted(EMBEDDED)), QUESTION])
    done = subprocess.run(["bash", "-c", " ".join([*words, ">&-"])], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "standard output is closed" in done.stderr


@pytest.mark.parametrize(("answers", "words"), [("q.jsonl", "of their own"), ("/dev/null", "not a file of answers")])
def test_answers_go_to_a_file_of_their_own(run: Run, tmp_path: Path, answers: str, words: str) -> None:
    write_questions(tmp_path / "q.jsonl", [{"question_id": 1, "text": "a"}])
    with pytest.raises(UsageError, match=words):
        run("--questions", tmp_path / "q.jsonl", "--answers", tmp_path / answers)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nonsense"], 2, "no command 'nonsense'"),
        (["convert", "--q-bits", "4"], 2, "--hf-path"),
        (["convert", "--q-bits", "x"], 2, "--q-bits takes a whole number"),
        (["aks"], 2, "no command 'aks'"),
        (["ask", "--nonsense"], 2, "--nonsense"),
        (["ask", "missing.png", "What?"], 4, "missing.png"),
        (["ask", "--model", "no-such-folder", "What?"], 3, "no-such-folder"),
        (["ask", "red " * 500], 5, "the limit 512"),
        (["ask", "--model", "no/such", "What?"], 7, "HF_HUB_OFFLINE"),
    ],
)
def test_errors_end_with_their_exit_code_and_two_lines(arguments: list[str], code: int, words: str) -> None:
    process = start(*arguments, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert words in err
    assert len(err.splitlines()) == 2


def test_a_reader_that_is_gone_ends_the_program_quietly(converted: Callable[[Path], Path]) -> None:
    process = start("ask", "--model", converted(EMBEDDED), ONE, QUESTION)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
def test_a_full_disk_behind_stdout_is_an_error(converted: Callable[[Path], Path]) -> None:
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "mlx_llava", "ask", "--model", str(converted(EMBEDDED)), str(ONE), QUESTION]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2
    assert "No space left" in done.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_ctrl_c_keeps_the_text_so_far(run: Run, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    whole = generate.stream

    def interrupted(*arguments: Any) -> Iterator[Token]:
        for n, token in enumerate(whole(*arguments)):
            if n == 3:
                signal.raise_signal(signal.SIGINT)
            yield token

    monkeypatch.setattr(generate, "stream", interrupted)
    whole_answer = answer_of(ONE.name, DESCRIBE)["answer"]
    code, out, err = run(*flags, ONE, DESCRIBE)
    assert (code, err) == (130, "")
    assert (json.loads(out)["text"] if flags else out.rstrip()) == " ".join(whole_answer.split()[:3])
    assert not flags or json.loads(out)["finish"] == "cancelled"
