"""Downloads and converts a checkpoint in a process of its own, so that it can be watched and stopped."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from mlx_llava.errors import ConversionError

ENDS = re.compile(rb"[\r\n]")  # progress bars rewrite their line
PATIENCE = 5.0  # seconds to end in peace


async def fetch(source: str, folder: Path) -> AsyncGenerator[str, None]:
    """Convert `source` to 4 bits in `folder`; what the program says, line by line.

    Raises ConversionError with its last words where it fails. Closing the iterator ends the program; files that
    were fetched whole stay in the hub's cache.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "mlx_llava.convert", "--hf-path", source, "--mlx-path", str(folder), "-q"]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    )
    said: list[str] = []
    try:
        assert process.stderr is not None
        waiting = b""
        while chunk := await process.stderr.read(4096):
            *lines, waiting = ENDS.split(waiting + chunk)
            for line in lines:
                if text := line.decode(errors="replace").strip():
                    said.append(text)
                    yield text
        if await process.wait():
            problem, advice = last_words([*said, waiting.decode(errors="replace").strip()])
            raise ConversionError(problem, advice)
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """End a process, gently first."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), PATIENCE)
            except TimeoutError:
                process.kill()


def last_words(said: list[str]) -> tuple[str, str]:
    """What went wrong and what to do, as the program said it."""
    mark = "mlx-llava: error: "
    for at, line in enumerate(said):
        if line.startswith(mark):
            advice = said[at + 1] if at + 1 < len(said) else ""
            return line.removeprefix(mark), advice or "Try again."
    return next((line for line in reversed(said) if line), "the conversion failed"), "Try again."
