"""The chat in lines: through pipes, and in a terminal where a person wants it so."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from spine import EMBEDDED, answer_of

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
COLOR = "What color is the square?"
CHAT = [sys.executable, "-m", "mlx_llava", "chat"]
ALTERNATE = b"\x1b[?1049h"  # the sequence that opens a full screen


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))


def test_through_pipes_answers_alone_reach_stdout_and_commands_work() -> None:
    lines = [str(SCENE), "/set alternatives on", COLOR, "/tokens", "/instead 1 1", "/nonsense", "/quit", "not read"]
    done = subprocess.run(CHAT, input="\n".join(lines), capture_output=True, text=True, check=False)
    answer = answer_of("two_shapes_wide.png", COLOR)["answer"]
    assert done.stdout == f"{answer}\n{answer}\n"  # the likeliest token is the one that was said
    assert done.returncode == 1  # of the command that is none
    for told in ("picture 1: two_shapes_wide.png, 160 by 120", "  1  ", "/nonsense: no such command"):
        assert told in done.stderr
    assert "\x1b" not in done.stdout + done.stderr


def test_where_an_answer_looked_and_a_covered_picture_work_in_lines() -> None:
    lines = [
        str(SCENE),
        COLOR,
        "/attention",
        "/attention 2",
        "/look 99",
        "/cover 1 0 0 50 100",
        '"""',
        "And the",
        "triangle?",
    ]
    done = subprocess.run(CHAT, input="\n".join(lines), capture_output=True, text=True, check=False)
    told = done.stderr.splitlines()
    maps = [n for n, line in enumerate(told) if "of its attention is on this picture" in line]
    assert [told[n - 1].split(",")[0] for n in maps] == ["all tokens", "token 2"]
    for at in maps:
        rows = told[at + 1 : at + 9]  # 8 x 8 patches
        assert all(len(row) == 8 and row.isdecimal() for row in rows)
        assert "9" in "".join(rows)
    assert "there is no token 99" in done.stderr
    asked, covered, last = done.stdout.splitlines()  # what the input ends in the middle of is asked too
    assert asked == answer_of("two_shapes_wide.png", COLOR)["answer"] != covered
    assert last


@pytest.mark.parametrize("why", ["settings", "dumb", "flag"])
def test_in_a_terminal_there_is_no_full_screen_where_none_is_wanted(why: str, tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "settings.json").write_text('{"screen_reader": true}' if why == "settings" else "{}")
    environment = {**os.environ, "MLX_LLAVA_HOME": str(tmp_path), "TERM": "dumb" if why == "dumb" else "xterm-256color"}
    ours, theirs = os.openpty()
    command = [*CHAT, *(["--plain"] if why == "flag" else [])]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as program:
        os.close(theirs)
        os.write(ours, b"/quit\n")
        seen, deadline = b"", time.monotonic() + 60
        while program.poll() is None or select.select([ours], [], [], 0)[0]:
            assert time.monotonic() < deadline, seen
            if select.select([ours], [], [], 0.1)[0]:
                try:
                    seen += os.read(ours, 4096)
                except OSError:  # nobody holds the other end any more
                    break
    os.close(ours)
    assert program.wait() == 0
    assert b"ready: embedded" in seen
    assert ALTERNATE not in seen
