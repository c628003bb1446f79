"""The program in a real terminal, tmux, used with real keys."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from spine import EMBEDDED

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is the terminal of these tests")
ROOT = Path(__file__).parents[2]
SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
CODE = """
import sys
from scripted import ScriptedWorker
from mlx_llava.tui.app import run
from mlx_llava.engine.thread import Engine
from mlx_llava.tui.history.history import History
from mlx_llava.engine.messages import Load
from mlx_llava.tui.session.autosave import Record
from mlx_llava.tui.session.session import Opening, Session
from mlx_llava.tui.session.settings import Settings
worker = ScriptedWorker(lambda ask: f"<{ask.exchanges[-1].question}>", pause=float(sys.argv[1]))
session = Session(lambda: Engine(lambda: worker), Settings(), Record(History(None)))
sys.exit(run(session, Opening(Load("scripted"))))
"""


class Terminal:
    """A tmux window."""

    def __init__(self, socket: Path, command: list[str]) -> None:
        self.socket = socket
        self.tmux("new-session", "-d", "-x", "80", "-y", "24", f"{shlex.join(command)}; echo code $?; sleep 100")

    def tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self.socket), "-f", "/dev/null", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def screen(self) -> str:
        return self.tmux("capture-pane", "-p")

    def shows(self, text: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.screen():
            assert time.monotonic() < deadline, self.screen()
            time.sleep(0.05)

    def keys(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def type(self, text: str) -> None:
        self.tmux("send-keys", "-l", text)


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")

    def start(pause: float = 0.0) -> Terminal:
        opened.append(Terminal(tmp_path / "tmux", [sys.executable, "-c", CODE, str(pause)]))
        opened[-1].shows("ready")
        return opened[-1]

    yield start
    for window in opened:
        window.tmux("kill-server")


def test_fast_typing_and_enter_lose_nothing(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    for n in range(100):
        text = f"question number {n:03d}"
        window.tmux("send-keys", "-l", text, ";", "send-keys", "Enter")  # one write, as a fast hand or a paste
        window.shows(f"<{text}>")
    window.keys("C-q")
    window.shows("code 0")


def test_a_pasted_path_is_a_picture_and_a_pasted_text_is_text(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    for text, shown in ((str(SCENE), "1 two_shapes_wide.png"), ("two\nlines", "lines")):
        window.tmux("set-buffer", text)
        window.tmux("paste-buffer", "-p")
        window.shows(shown)
    window.keys("Enter")
    window.shows("<two")


def test_ctrl_c_stops_and_then_leaves_with_130(terminal: Callable[..., Terminal]) -> None:
    window = terminal(0.2)
    window.type("one two three four five six seven eight nine ten eleven twelve")
    window.keys("Enter")
    window.shows("Esc stops")
    window.keys("C-c")
    window.shows("stopped")
    window.keys("C-c")
    window.shows("again to leave")
    window.keys("C-c")
    window.shows("code 130")


def test_the_title_of_its_window_stays_what_it_was(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    assert window.tmux("display", "-p", "#{pane_title}") == window.tmux("display", "-p", "#{host}")


def test_it_ends_when_its_terminal_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(ROOT), str(ROOT / "tests"))))
    ours, theirs = os.openpty()
    command = [sys.executable, "-c", CODE, "0"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "24"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as program:
        os.close(theirs)
        seen = b""
        while b"ready" not in seen:
            seen += os.read(ours, 4096)
        os.close(ours)
        assert program.wait(30) == 129


def test_it_bears_being_one_cell_large(terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    for width, height in ((1, 1), (2, 50), (300, 3), (80, 24)):
        window.tmux("resize-window", "-x", str(width), "-y", str(height))
        time.sleep(0.3)
    window.type("still there")
    window.keys("Enter")
    window.shows("<still there>")


def test_it_can_be_suspended_and_comes_back(tmp_path: Path, terminal: Callable[..., Terminal]) -> None:
    window = terminal()
    window.tmux("respawn-window", "-k", "sh -i")
    window.type(shlex.join([sys.executable, "-c", CODE, "0"]))
    window.keys("Enter")
    window.shows("ready")
    window.keys("C-z")
    window.shows("Stopped")
    window.type("fg")
    window.keys("Enter")
    window.shows("ready")
    window.type("back again")
    window.keys("Enter")
    window.shows("<back again>")
