"""Prints docs/commands.md: what every command answers to --help. `make reference` writes it."""

import os
import subprocess
import sys
from pathlib import Path

from mlx_llava.cli import COMMANDS

FILE = Path(__file__).parents[1] / "docs" / "commands.md"
INTRODUCTION = """# Command-line reference

Generated from `--help` by `make reference`; a test keeps it up to date. Every command is also a module:
`mlx-llava lora` is `python -m mlx_llava.lora`.
"""
WIDTH = "100"


def help_of(*command: str) -> str:
    """What `mlx-llava COMMAND --help` prints on a terminal without colors."""
    environment = {**os.environ, "COLUMNS": WIDTH, "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
    arguments = [sys.executable, "-m", "mlx_llava", *command, "--help"]
    output = subprocess.check_output(arguments, env=environment, text=True, encoding="utf-8")
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def reference() -> str:
    """The whole page."""
    sections = [
        f"## mlx-llava {name}".rstrip() + f"\n\n```text\n{help_of(*name.split())}\n```\n" for name in ("", *COMMANDS)
    ]
    return "\n".join([INTRODUCTION, *sections])


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore[reportAttributeAccessIssue]
    print(reference(), end="")
