"""Progress before the first step: a line now and then, and none with --quiet."""

import pytest

from mlx_llava.program.run import QUIET
from mlx_llava.training import progress as module
from mlx_llava.training.progress import progress


def test_a_line_says_how_much_is_done_and_what_is_left(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(QUIET, raising=False)
    report = progress("checking the records")
    report(1, 4)
    assert capfd.readouterr().err == ""  # too early
    monkeypatch.setattr(module, "EVERY", -1)
    for done in range(1, 5):
        report(done, 4)
    assert capfd.readouterr().err.splitlines() == [f"checking the records: {done}%, 0 s left" for done in (25, 50, 75)]
    monkeypatch.setenv(QUIET, "1")
    report(1, 4)
    assert capfd.readouterr().err == ""
