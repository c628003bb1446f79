"""The terminal chat: how soon it is there, what streaming costs, how quickly keys and Esc are heard.

The answers are made up by a worker on the engine's thread, 200 tokens a second; no model, no peers.
"""

import asyncio
import os
import pty
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable
from pathlib import Path

from harness import Bench, start, table

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path.insert(0, str(TESTS))
SEEN = b"sk something"  # the cursor stands on the first letter
RATE = 200
SECONDS = 8
TURNS = 500
ANSWERS = {
    "prose": "word " * (RATE * SECONDS),
    "a list": "\n".join(f"- item {n} of many" for n in range(RATE * SECONDS // 5)),
    "steps with code": "".join(f"{n}. step\n\n   ```\n   x = {n}\n   ```\n\n" for n in range(1, RATE * SECONDS // 15)),
    "code": "```python\n" + "x = 1 + 2 + 3\n" * (RATE * SECONDS // 7) + "```\n",
}


def main() -> None:
    """Print the tables."""
    bench = start("The terminal chat", __doc__, runs=5)
    print(f"First paint: from the start of the process to the prompt on the screen, best of {bench.runs}.\n")
    table(("", "seconds", "CPU seconds"), [first_paint(bench)])
    print(f"\nStreaming at {RATE} tokens a second for {SECONDS} s, 120 by 40, without a terminal.\n")
    head = (
        "answer",
        "share of a core",
        "… while somebody types",
        "key heard after, median",
        "… at most",
        "Esc to rest",
    )
    table(head, (asyncio.run(streaming(name)) for name in ANSWERS))
    print(f"\nA chat of {TURNS} questions and answers.\n")
    table(("", "seconds"), asyncio.run(long_chat()))


def first_paint(bench: Bench) -> tuple[str, ...]:
    """Start the program in a terminal of its own, and wait for the prompt."""
    ran = [paint(bench.folder / "home") for _ in range(bench.runs + 1)][1:]
    return "`mlx-llava chat`", *(f"{min(column):.2f}" for column in zip(*ran, strict=True))


def paint(home: Path) -> tuple[float, float]:
    """Seconds and CPU seconds until the prompt is there."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "MLX_LLAVA_HOME": str(home), "COLUMNS": "100", "LINES": "30"}
    before = time.monotonic()
    command = [sys.executable, "-m", "mlx_llava.tui", "--model", "embedded"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    seen = b""
    while SEEN not in seen and time.monotonic() - before < 60:
        if select.select([ours], [], [], 1)[0]:
            seen += os.read(ours, 1 << 16)
    wall, cpu = time.monotonic() - before, cpu_seconds(process.pid)
    process.kill()
    process.wait()
    os.close(ours)
    os.close(theirs)
    return wall, cpu


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process that runs; 0 where the system does not say."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def streaming(name: str) -> tuple[str, ...]:
    """A row of the table: what an answer of this kind costs while it streams."""
    from screen import running
    from scripted import ScriptedWorker

    async with running(ScriptedWorker(ANSWERS[name], pause=1 / RATE), size=(120, 40)) as driver:
        driver.app.chat.composer.prompt.insert("Go on.")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.session.answering and driver.session.answering.began)
        late: list[float] = []
        quiet = await share(asyncio.sleep(SECONDS / 2))
        typing = await share(type_on(driver.app.chat.composer.prompt, SECONDS / 4, late))
        before = time.monotonic()
        driver.app.chat.action_stop()
        while driver.session.answering:
            await asyncio.sleep(0.001)
        rest = time.monotonic() - before
    return (
        name,
        f"{quiet:.0%}",
        f"{typing:.0%}",
        *(f"{1000 * n:.0f} ms" for n in (statistics.median(late), max(late), rest)),
    )


async def share(something: Awaitable[None]) -> float:
    """CPU seconds in a second while something happens."""
    cpu, wall = time.process_time(), time.monotonic()
    await something
    return (time.process_time() - cpu) / (time.monotonic() - wall)


async def type_on(prompt: object, seconds: float, late: list[float]) -> None:
    """Type about 20 keys a second, and note how long each took."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        late.append(await key(prompt))
        await asyncio.sleep(0.05)


async def key(prompt: object) -> float:
    """Seconds from a key to its letter in the prompt."""
    from textual import events

    from mlx_llava.tui.widgets.prompt import Prompt

    assert isinstance(prompt, Prompt)
    length, before = len(prompt.text), time.monotonic()
    prompt.post_message(events.Key("a", "a"))
    while len(prompt.text) == length:
        await asyncio.sleep(0)
    return time.monotonic() - before


async def long_chat() -> list[tuple[str, str]]:
    """Rows of the table: a long chat is opened and scrolled."""
    from screen import running
    from scripted import ScriptedWorker

    from mlx_llava.tui.session.conversation import Node

    async with running(ScriptedWorker(), size=(120, 40)) as driver:
        for n in range(TURNS):
            driver.session.conversation.add(Node("user", f"question {n}"))
            driver.session.conversation.add(
                Node("assistant", "An answer of **some** words. " * 8, facts={"tokens": 40})
            )
        rows = []
        chat = driver.app.chat
        for name, what in (("opened", chat.redraw), ("the 40 turns before", chat.log_view.show_older)):
            before = time.monotonic()
            await what()
            await driver.pilot.pause()
            rows.append((name, f"{time.monotonic() - before:.2f}"))
        times = []
        for _ in range(8):
            before = time.monotonic()
            driver.app.chat.action_page(-1)
            await driver.pilot.pause()
            times.append(time.monotonic() - before)
        rows.append(("a page up, median", f"{statistics.median(times):.2f}"))
    return rows


if __name__ == "__main__":
    main()
