"""The system's clipboard: text goes there, pictures come from there."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROGRAMS = (["pbcopy"], ["wl-copy"], ["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"])
READERS = (["wl-paste", "--type", "image/png"], ["xclip", "-selection", "clipboard", "-t", "image/png", "-o"])
# AppleScript's own type for PNG data; the file is the argument, so that no path is ever part of a program
MACOS = (
    "on run argv",
    "set target to open for access POSIX file (item 1 of argv) with write permission",
    "write (the clipboard as «class PNGf») to target",
    "close access target",
    "end run",
)
PATIENCE = 2.0  # seconds


def copy(text: str) -> bool:
    """Put text on the clipboard by the first program that can; whether there was one."""
    for command in PROGRAMS:
        if shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(
                command,
                input=text.encode(errors="replace"),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return True
    return False


def image() -> bytes | None:
    """The picture on the clipboard, as PNG; None where there is none, or no program that could tell."""
    if sys.platform == "darwin":
        return _of_macos()
    found = (_output(command) for command in READERS if shutil.which(command[0]))
    return next((data for data in found if data), None)


def _of_macos() -> bytes | None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clipboard.png"
        lines = [part for line in MACOS for part in ("-e", line)]
        if _output(["osascript", *lines, str(file)]) is None or not file.is_file():
            return None
        return file.read_bytes()


def _output(command: list[str]) -> bytes | None:
    """What a program prints; None where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout
