"""The whole chat with the embedded model: the answers are real."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from screen import Driver, running
from spine import EMBEDDED, answer_of, conversation_of

from mlx_llava.engine.messages import Load
from mlx_llava.tui.history.history import History

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
TALK = conversation_of(SCENE.name)
SAID = [turn["answer"] for turn in TALK]
SQUARE = "What color is the square?"
BLUE = answer_of(SCENE.name, SQUARE)["answer"]


@pytest.fixture(autouse=True)
def _at_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))


def answers(driver: Driver) -> list[str]:
    return [node.text for node in driver.session.conversation.answers]


def test_a_person_asks_stops_asks_again_edits_and_comes_back(tmp_path: Path) -> None:
    from mlx_llava.engine.worker import ModelWorker

    async def first() -> int:
        async with running(ModelWorker, Load(), (SCENE,), history=History(tmp_path)) as driver:
            await driver.ask(TALK[0]["question"])
            await driver.shows(SAID[0])
            await driver.ask(TALK[1]["question"])
            facts = driver.session.conversation.tip.facts
            assert facts["prefilled_tokens"] < 20 < facts["prompt_tokens"]  # only what is new was computed
            await driver.pilot.press("ctrl+r")
            await driver.until(lambda: len(answers(driver)) == 2 and not driver.session.answering)
            assert answers(driver) == SAID[:2]
            assert driver.session.conversation.tip.place == (2, 2)
            await driver.type("/edit 1", "enter")
            driver.app.chat.composer.prompt.load_text(SQUARE)
            await driver.pilot.press("enter")
            await driver.until(lambda: answers(driver) == [BLUE] and not driver.session.answering)
            await driver.pilot.press("alt+left")
            await driver.until(lambda: answers(driver) == SAID[:2])
            await driver.until(lambda: driver.session.engine.usage)
            return driver.session.record.chat or 0

    async def second(chat: int) -> None:
        async with running(ModelWorker, Load(), history=History(tmp_path)) as driver:
            await driver.type(f"/open {chat}", "enter")
            await driver.until(lambda: answers(driver) == SAID[:2])
            await driver.shows("two_shapes_wide.png")
            await driver.ask(TALK[2]["question"])
            assert answers(driver)[-1] == SAID[2]

    asyncio.run(second(asyncio.run(first())))


def test_a_question_that_is_too_long_is_told_of_and_leaves_the_chat() -> None:
    from mlx_llava.engine.worker import ModelWorker

    async def test() -> None:
        async with running(ModelWorker, Load(), (SCENE,)) as driver:
            await driver.until(lambda: driver.session.images() and driver.session.model)
            await driver.type("red " * 600)
            await driver.shows("too long")
            await driver.pilot.press("enter")
            await driver.shows("the limit 512")
            await driver.ask(SQUARE)
            assert answers(driver) == [BLUE]

    asyncio.run(test())


@pytest.fixture
def chat(tmp_path: Path, home: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the program without a terminal; the cache is shared, the history is not."""
    (tmp_path / "cache").symlink_to(home / "cache")

    def run(*arguments: str, typed: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlx_llava.tui", *arguments]
        environment = {"PATH": "/usr/bin:/bin", "MLX_LLAVA_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        return subprocess.run(command, input=typed, capture_output=True, text=True, env=environment, timeout=120)

    return run


def test_without_a_terminal_answers_go_to_stdout_and_all_else_to_stderr(
    chat: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    done = chat(str(SCENE), typed=f"{SQUARE}\n/again\n/stats\n")
    assert (done.returncode, done.stdout) == (0, f"{BLUE}\n{BLUE}\n")
    assert "1 computed" in done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    more = chat("--continue", typed=f'"""How many shapes\nare there?"""\n/history\n/export markdown {tmp_path}/x.md\n')
    assert f"question: {SQUARE}" in more.stderr
    assert more.returncode == 0
    assert "How many shapes" in (tmp_path / "x.md").read_text()


def test_what_goes_wrong_without_a_terminal_sets_the_exit_code(
    chat: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    assert chat("--model", "/nowhere").returncode == 3
    assert chat("/no/such/picture.png", "--model", "embedded").returncode == 4
    assert chat(typed="/nonsense\n").returncode == 1
    assert chat("--continue", "--session", "3").returncode == 2
    assert chat("--incognito", "--prompt", "red").returncode == 0
    assert "no chat to continue" in chat("--continue").stderr
