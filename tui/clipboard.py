"""The system's clipboard."""

import shutil
import subprocess

PROGRAMS = (["pbcopy"], ["wl-copy"], ["xclip", "-selection", "clipboard"], ["xsel", "--clipboard", "--input"])
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
