"""Download and convert a checkpoint in a subprocess, which can be followed and stopped."""

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

from mlx_llava.errors import ConversionError

LINE_ENDS = re.compile(rb"[\r\n]")  # progress bars rewrite their line with \r
TIMEOUT = 5.0  # seconds to end after SIGTERM


async def fetch(source: str, folder: Path) -> AsyncGenerator[str, None]:
    """Pull `source` in 4 bits as the pulled model `folder`; yields each line of progress.

    Raises ConversionError with the program's own error if it fails. Closing the iterator stops the program; complete
    downloads stay in the hub's cache.
    """
    command = [sys.executable, "-m", "mlx_llava.library", "pull", source, "-q", "--name", folder.name]
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "80"},
    )
    output: list[str] = []
    try:
        assert process.stderr is not None
        rest = b""
        while chunk := await process.stderr.read(4096):
            *lines, rest = LINE_ENDS.split(rest + chunk)
            for line in lines:
                if text := line.decode(errors="replace").strip():
                    output.append(text)
                    yield text
        if await process.wait():
            problem, advice = error_in([*output, rest.decode(errors="replace").strip()])
            raise ConversionError(problem, advice)
    finally:
        await end(process)


async def end(process: asyncio.subprocess.Process) -> None:
    """Terminate a process, and kill it if that takes too long."""
    with contextlib.suppress(ProcessLookupError):
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), TIMEOUT)
            except TimeoutError:
                process.kill()


def error_in(output: list[str]) -> tuple[str, str]:
    """The problem and the advice in the output of a failed program."""
    mark = "mlx-llava: error: "
    for at, line in enumerate(output):
        if line.startswith(mark):
            advice = output[at + 1] if at + 1 < len(output) else ""
            return line.removeprefix(mark), advice or "Try again."
    return next((line for line in reversed(output) if line), "the conversion failed"), "Try again."
