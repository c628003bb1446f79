"""`ask` as a process: streams, signals, exit codes."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asking import ANSWER, DESCRIBE, ONE, QUESTION, Run
from spine import EMBEDDED, answer_of

from mlx_llava.inference import generate
from mlx_llava.inference.sampling import Token


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
