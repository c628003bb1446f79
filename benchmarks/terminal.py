"""The terminal chat: time to first paint, cost of streaming, and latency of keys and Esc.

A scripted worker on the engine's thread answers with 200 tokens a second. There is no model and there are no peers.
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
PROMPT = b"sk something"  # the cursor is on the first letter
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
    bench = start("The terminal chat", __doc__, runs=5)
    print(f"First paint: from the start of the process to the prompt on the screen; the fastest of {bench.runs}.\n")
    table(("", "seconds", "CPU seconds"), [first_paint(bench)])
    print(f"\nStreaming at {RATE} tokens a second for {SECONDS} s on a screen of 120 x 40, without a terminal.\n")
    head = ("answer", "share of a core", "… while typing", "key latency, median", "… maximum", "Esc until idle")
    table(head, (asyncio.run(streaming(name)) for name in ANSWERS))
    print(f"\nA chat of {TURNS} questions and answers.\n")
    table(("", "seconds"), asyncio.run(long_chat()))


def first_paint(bench: Bench) -> tuple[str, ...]:
    """Start the program in a pseudo-terminal and wait for the prompt, after a warm-up run."""
    runs = [paint(bench.folder / "home") for _ in range(bench.runs + 1)][1:]
    return "`mlx-llava chat`", *(f"{min(column):.2f}" for column in zip(*runs, strict=True))


def paint(home: Path) -> tuple[float, float]:
    """Seconds and CPU seconds until the prompt appears."""
    ours, theirs = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "MLX_LLAVA_HOME": str(home), "COLUMNS": "100", "LINES": "30"}
    before = time.monotonic()
    command = [sys.executable, "-m", "mlx_llava.tui", "--model", "embedded"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    output = b""
    while PROMPT not in output and time.monotonic() - before < 60:
        if select.select([ours], [], [], 1)[0]:
            output += os.read(ours, 1 << 16)
    wall, cpu = time.monotonic() - before, cpu_seconds(process.pid)
    process.kill()
    process.wait()
    os.close(ours)
    os.close(theirs)
    return wall, cpu


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a running process; 0 on systems without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def streaming(name: str) -> tuple[str, ...]:
    """A row of the table: the cost of streaming this answer."""
    from screen import running
    from scripted import ScriptedWorker

    async with running(ScriptedWorker(ANSWERS[name], pause=1 / RATE), size=(120, 40)) as driver:
        driver.app.chat.composer.prompt.insert("Go on.")
        await driver.pilot.press("enter")
        await driver.until(lambda: driver.session.answering and driver.session.answering.start)
        latencies: list[float] = []
        quiet = await share(asyncio.sleep(SECONDS / 2))
        typing = await share(type_on(driver.app.chat.composer.prompt, SECONDS / 4, latencies))
        before = time.monotonic()
        driver.app.chat.action_stop()
        while driver.session.answering:
            await asyncio.sleep(0.001)
        stop = time.monotonic() - before
    return (
        name,
        f"{quiet:.0%}",
        f"{typing:.0%}",
        *(f"{1000 * n:.0f} ms" for n in (statistics.median(latencies), max(latencies), stop)),
    )


async def share(work: Awaitable[None]) -> float:
    """CPU seconds per second while `work` runs."""
    cpu, wall = time.process_time(), time.monotonic()
    await work
    return (time.process_time() - cpu) / (time.monotonic() - wall)


async def type_on(prompt: object, seconds: float, latencies: list[float]) -> None:
    """Type about 20 keys a second and record the latency of each."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        latencies.append(await key(prompt))
        await asyncio.sleep(0.05)


async def key(prompt: object) -> float:
    """Seconds until a key shows up in the prompt."""
    from textual import events

    from mlx_llava.tui.widgets.prompt import Prompt

    assert isinstance(prompt, Prompt)
    length, before = len(prompt.text), time.monotonic()
    prompt.post_message(events.Key("a", "a"))
    while len(prompt.text) == length:
        await asyncio.sleep(0)
    return time.monotonic() - before


async def long_chat() -> list[tuple[str, str]]:
    """Rows of the table: opening and scrolling a long chat."""
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
