"""Start-up time of the programs, the heavy packages they import, and a whole process that answers a short question.

The bundled model answers on every side. mlx-lm reads its text model only, so it answers without the image.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import NamedTuple

from harness import LM, NOT_INSTALLED, OURS, VLM, Bench, environment, start, table
from processes import Finished, failure, run

WATCHED = ("numpy", "mlx.core", "transformers", "torch", "textual")
MODEL = Path(__file__).parents[1] / "mlx_llava" / "embedded" / "tiny-llava-hf"
IMAGE = MODEL / "examples" / "two_shapes_wide.png"
QUESTION = "What color is the square?"


class Program(NamedTuple):
    """A side, what to call its command in a table, and the words after `python -m`."""

    side: str
    name: str
    words: Sequence[str]


STARTS = [
    Program(side, " ".join(words), words)
    for side, words in (
        (OURS, ("mlx_llava", "--help")),
        (OURS, ("mlx_llava", "--version")),
        (OURS, ("mlx_llava", "ask", "--help")),
        (OURS, ("mlx_llava", "convert", "--help")),
        (LM, ("mlx_lm", "generate", "--help")),
        (VLM, ("mlx_vlm.generate", "--help")),
        (VLM, ("mlx_vlm.convert", "--help")),
    )
]
PEER_WORDS = ("--model", str(MODEL), "--prompt", QUESTION, "--max-tokens", "8")
ANSWERS = [
    Program(OURS, f"mlx_llava ask two_shapes_wide.png '{QUESTION}'", ("mlx_llava", "ask", str(IMAGE), QUESTION)),
    Program(VLM, "mlx_vlm.generate", ("mlx_vlm.generate", "--image", str(IMAGE), *PEER_WORDS)),
    Program(LM, "mlx_lm generate", ("mlx_lm", "generate", *PEER_WORDS)),
]


def main() -> None:
    bench = start("Start-up", __doc__, runs=7)
    print(f"Each as `python -m …`; medians of {bench.runs} runs in turns, after a run that is not counted.\n")
    measure(bench, STARTS)
    print("One answer of the bundled model; the last column is what the process printed.\n")
    measure(bench, ANSWERS)


def measure(bench: Bench, programs: Sequence[Program]) -> None:
    """Print a table of these programs: seconds, CPU seconds, imports and the end of the output."""
    answers = programs is ANSWERS
    installed = [program for program in programs if interpreter(bench, program)]
    traced = {program.name: execute(bench, program, "-X", "importtime") for program in installed}
    runs = [{program.name: execute(bench, program) for program in installed} for _ in range(bench.runs)]
    head = ("program", "command", "seconds", "CPU seconds", *(f"imports {name}" for name in WATCHED))
    rows = [[program.side, f"`{program.name}`", *row(program, traced, runs, answers)] for program in programs]
    table((*head, "answer") if answers else head, rows)


def row(
    program: Program, traced: Mapping[str, Finished], runs: Sequence[Mapping[str, Finished]], answer: bool
) -> tuple[str, ...]:
    """The cells of a program."""
    first = traced.get(program.name)
    if first is None or first.code:
        return NOT_INSTALLED if first is None else failure(first), *[""] * (1 + len(WATCHED) + answer)
    imported = set(re.findall(r"\|\s+([\w.]+)$", first.stderr, re.MULTILINE))
    seconds = (f"{median(getattr(finished[program.name], key) for finished in runs):.2f}" for key in ("wall", "cpu"))
    watched = ("yes" if name in imported else "no" for name in WATCHED)
    lines = [line for line in first.stdout.splitlines() if line.startswith("The ")]
    return *seconds, *watched, *(lines[:1] or ["none"] if answer else ())


def interpreter(bench: Bench, program: Program) -> str | None:
    """The interpreter of a program's side; mlx-lm is always installed here, as this package requires it."""
    return sys.executable if program.side == LM else bench.python(program.side)


def execute(bench: Bench, program: Program, *flags: str) -> Finished:
    """Run a program as `python FLAGS -m …`."""
    python = interpreter(bench, program)
    assert python is not None
    env = environment(program.side) | {"MLX_LLAVA_HOME": os.fspath(bench.folder / "home")}
    return run([python, *flags, "-m", *program.words], env)


if __name__ == "__main__":
    main()
