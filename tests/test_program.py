"""Around every program: what is printed of an error, and how text is made safe for a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.errors import ImageError, LimitError
from mlx_llava.program import printable, run


def ends(error: BaseException) -> int:
    def fail() -> None:
        raise error

    with pytest.raises(SystemExit) as stop:
        run(fail)
    return int(str(stop.value.code))


@pytest.mark.parametrize(
    ("error", "code", "problem"),
    [
        (ImageError("a\nb.png: no such picture", "Check the path."), 4, "a␍b.png: no such picture"),
        (LimitError("too long", "Shorten it."), 5, "too long"),
        (FileNotFoundError(2, "No such file or directory", "x"), 1, "x: No such file or directory"),
        (MemoryError(), 5, "out of memory"),
        (RuntimeError("[metal::malloc] Attempting to allocate 9 bytes"), 5, "out of memory"),
    ],
)
def test_an_error_is_told_in_two_lines(
    error: Exception, code: int, problem: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ends(error) == code
    first, second = capfd.readouterr().err.splitlines()
    assert first == f"mlx-llava: error: {problem}"
    assert second


def test_an_error_that_nobody_foresaw_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="a bug"):
        run(lambda: (_ for _ in ()).throw(RuntimeError("a bug")))


def test_an_interrupted_program_ends_with_130() -> None:
    assert ends(KeyboardInterrupt()) == 130


@given(st.text())
def test_printable_text_holds_no_character_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 0x20 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in shown)
    assert not set("\u202e\u2066\u200f") & set(shown)  # that turn the direction of writing
    assert printable(shown) == shown
