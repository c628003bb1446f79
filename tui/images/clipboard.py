"""The system clipboard: write text, read images."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = (["pbcopy"], ["wl-copy"], ["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"])
READERS = (["wl-paste", "--type", "image/png"], ["xclip", "-selection", "clipboard", "-t", "image/png", "-o"])
# AppleScript's type for PNG data; the file is an argument, so that a path never becomes part of the script
MACOS = (
    "on run argv",
    "set target to open for access POSIX file (item 1 of argv) with write permission",
    "write (the clipboard as «class PNGf») to target",
    "close access target",
    "end run",
)
TIMEOUT = 2.0  # seconds


def copy(text: str) -> bool:
    """Copy text with the first program that works; False if there is none."""
    for command in PROGRAMS:
        if shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(
                command,
                input=text.encode(errors="replace"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=TIMEOUT,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return True
    return False


def read_image() -> bytes | None:
    """The image on the clipboard as PNG; None if there is none, or no program to read it."""
    if sys.platform == "darwin":
        return _read_on_macos()
    outputs = (_output(command) for command in READERS if shutil.which(command[0]))
    return next((data for data in outputs if data), None)


def _read_on_macos() -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clipboard.png"
        lines = [part for line in MACOS for part in ("-e", line)]
        if _output(["osascript", *lines, str(file)]) is None or not file.is_file():
            return None
        return file.read_bytes()


def _output(command: list[str]) -> bytes | None:
    """The output of a program; None if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
