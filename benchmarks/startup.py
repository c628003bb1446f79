"""Start-up time of the programs, the heavy modules they import, and the time of a full answer of the bundled model."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness import LM, NOT_INSTALLED, OURS, VLM, Bench, environment, failure, run, start, table

WATCHED = ("numpy", "mlx.core", "transformers", "textual")
QUESTION = "What color is the square?"
COMMANDS = {
    "--help": (OURS, ["mlx_llava", "--help"]),
    "--version": (OURS, ["mlx_llava", "--version"]),
    "ask --help": (OURS, ["mlx_llava", "ask", "--help"]),
    "convert --help": (OURS, ["mlx_llava", "convert", "--help"]),
    "mlx_lm generate --help": (LM, ["mlx_lm", "generate", "--help"]),
    "mlx_vlm.generate --help": (VLM, ["mlx_vlm.generate", "--help"]),
    "mlx_vlm.convert --help": (VLM, ["mlx_vlm.convert", "--help"]),
    f"ask two_shapes_wide.png '{QUESTION}', bundled model": (OURS, ["mlx_llava", "ask"]),
}


def main() -> None:
    bench = start("Start-up", __doc__, runs=7)
    print(f"Each as `python -m …`; the fastest of {bench.runs} runs after a warm-up run.\n")
    table(("program", "command", "seconds", "CPU seconds", *(f"imports {name}" for name in WATCHED)), starts(bench))


def starts(bench: Bench) -> Iterator[tuple[str, ...]]:
    for name, (side, arguments) in COMMANDS.items():
        python = bench.python(side)
        if python is None:
            yield side, f"`{name}`", NOT_INSTALLED, *[""] * (1 + len(WATCHED))
            continue
        question = [image(), QUESTION] if arguments[-1] == "ask" else []
        yield side, f"`{name}`", *times(python, [*arguments, *question], side, bench)


def image() -> str:
    """Path of an example image of the bundled model."""
    import mlx_llava

    return str(Path(mlx_llava.__file__).parent / "embedded/tiny-llava-hf/examples/two_shapes_wide.png")


def times(python: str, arguments: list[str], side: str, bench: Bench) -> tuple[str, ...]:
    """Seconds, CPU seconds, and whether each module of WATCHED was imported."""
    env = environment(side) | {"MLX_LLAVA_HOME": os.fspath(bench.folder / "home")}
    traced = run([python, "-X", "importtime", "-m", *arguments], env)
    if traced.code:
        return failure(traced), *[""] * (1 + len(WATCHED))
    imported = set(re.findall(r"\|\s+([\w.]+)$", traced.stderr, re.MULTILINE))
    runs = [run([python, "-m", *arguments], env) for _ in range(bench.runs)]
    seconds = (f"{min(getattr(finished, key) for finished in runs):.2f}" for key in ("wall", "cpu"))
    return *seconds, *("yes" if name in imported else "no" for name in WATCHED)


if __name__ == "__main__":
    main()
