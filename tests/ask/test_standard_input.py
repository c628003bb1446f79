"""Standard input of `ask`: an image or a question, by its content."""

import sys
from pathlib import Path

import pytest
from asking import ANSWER, ONE, QUESTION, Run

from mlx_llava.errors import LlavaError


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
