"""How long the programs take to start, what they import for that, and a whole answer of the embedded model."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from harness import LM, NOT_INSTALLED, OURS, VLM, Bench, environment, failure, run, start, table

WATCHED = ("numpy", "mlx.core", "transformers", "textual")
QUESTION = "What color is the square?"
SHOWN = {
    "--help": (OURS, ["mlx_llava", "--help"]),
    "--version": (OURS, ["mlx_llava", "--version"]),
    "ask --help": (OURS, ["mlx_llava", "ask", "--help"]),
    "convert --help": (OURS, ["mlx_llava", "convert", "--help"]),
    "mlx_lm generate --help": (LM, ["mlx_lm", "generate", "--help"]),
    "mlx_vlm.generate --help": (VLM, ["mlx_vlm.generate", "--help"]),
    "mlx_vlm.convert --help": (VLM, ["mlx_vlm.convert", "--help"]),
    f"ask two_shapes_wide.png '{QUESTION}', embedded model": (OURS, ["mlx_llava", "ask"]),
}


def main() -> None:
    """Print the table."""
    bench = start("Starting", __doc__, runs=7)
    print(f"Each as `python -m …`, the fastest of {bench.runs} after one that is not counted.\n")
    table(("program", "command", "seconds", "CPU seconds", *(f"imports {name}" for name in WATCHED)), starts(bench))


def starts(bench: Bench) -> Iterator[tuple[str, ...]]:
    """Rows of the table."""
    for shown, (side, words) in SHOWN.items():
        python = bench.python(side)
        if python is None:
            yield side, f"`{shown}`", NOT_INSTALLED, *[""] * (1 + len(WATCHED))
            continue
        question = [image(), QUESTION] if words[-1] == "ask" else []
        yield side, f"`{shown}`", *times(python, [*words, *question], side, bench)


def image() -> str:
    """A picture of the embedded model's folder."""
    import mlx_llava

    return str(Path(mlx_llava.__file__).parent / "embedded/tiny-llava-hf/examples/two_shapes_wide.png")


def times(python: str, words: list[str], side: str, bench: Bench) -> tuple[str, ...]:
    """Seconds, CPU seconds, and which of the watched modules were imported."""
    env = environment(side, True) | {"MLX_LLAVA_HOME": os.fspath(bench.folder / "home")}
    traced = run([python, "-X", "importtime", "-m", *words], env)
    if traced.code:
        return failure(traced), *[""] * (1 + len(WATCHED))
    imported = set(re.findall(r"\|\s+([\w.]+)$", traced.stderr, re.MULTILINE))
    ran = [run([python, "-m", *words], env) for _ in range(bench.runs)]
    seconds = (f"{min(getattr(one, key) for one in ran):.2f}" for key in ("wall", "cpu"))
    return *seconds, *("yes" if name in imported else "no" for name in WATCHED)


if __name__ == "__main__":
    main()
