"""Seconds to the first step of `lora` on a large file: at the first start, and at the next one with the same data.

Writes as many conversations as LLaVA's stage 2 has, in words of the bundled model. Some ten do not fit its context, and
are left out.
"""

import argparse
import json
import os
import random
import shlex
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from harness import ONE_THREAD, machine, table
from processes import peak

RECORDS, IMAGES = 665_000, 80
MAX_LINKS = 30_000  # names of one file; ext4 allows 65,000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--lines", action="store_true", help="JSON lines instead of a list")
    parser.add_argument("--distinct", action="store_true", help=f"an image for each record instead of {IMAGES} for all")
    parser.add_argument("--folder", type=Path, help="folder that keeps the data between runs")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    print(f"`python {shlex.join(['benchmarks/reading.py', *sys.argv[1:]])}`\n\n{machine()}")
    print(f"Load average at the start: {os.getloadavg()[0]:.1f}.")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        data = conversations(folder, options.records, lines=options.lines, distinct=options.distinct)
        print(f"{options.records:,} conversations, {data.stat().st_size / 1e6:.0f} MB, {options.workers} workers.\n")
        starts = [start(data, Path(temporary), name, options.workers) for name in ("first start", "next start")]
    table(
        ("", "data checked, s", "first step, s", "CPU seconds", "largest process, MB"),
        starts,
    )


class Start(NamedTuple):
    """A row of the table."""

    name: str
    checked: str
    stepped: str
    cpu: str
    peak: str


def start(data: Path, temporary: Path, name: str, num_workers: int) -> Start:
    """Train one small step; both starts share their caches and nothing else."""
    out = temporary / name
    flags = {"data": data, "images": data.parent, "adapter-path": out, "workers": num_workers, "steps": 1}
    small = ["--batch-size", "4", "--accumulation", "1", "--warmup-ratio", "0", "--leave-out"]
    command = [*(f"--{flag}={value}" for flag, value in flags.items()), *small]
    environment = os.environ | ONE_THREAD | {"MLX_LLAVA_HOME": str(temporary / "home")}
    began, seen = time.perf_counter(), dict[str, float]()
    process = subprocess.Popen(
        [sys.executable, "-m", "mlx_llava.lora", *command], env=environment, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr or ():
        seen[line.split()[1 if " conversations: " in line else 0]] = time.perf_counter() - began
        print(line, end="", file=sys.stderr)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name} failed")
    cpu = f"{usage.ru_utime + usage.ru_stime:.1f}"
    return Start(name, f"{seen['conversations:']:.1f}", f"{seen['1/1']:.1f}", cpu, f"{peak(usage) / 1e6:.0f}")


def conversations(folder: Path, count: int, *, lines: bool, distinct: bool) -> Path:
    """A file of conversations, 1 to 5 turns each, most of them about an image."""
    data = folder / f"{count}{'-distinct' * distinct}.{'jsonl' if lines else 'json'}"
    if data.exists():
        return data
    draw = random.Random(0)
    names = images(folder, count if distinct else IMAGES)
    words = [*known_words() * 20, *("".join(draw.choices("aeinorstl", k=draw.randint(3, 8))) for _ in range(200))]
    unfinished = data.with_suffix(".part")
    with unfinished.open("w") as file:
        file.write("" if lines else "[\n")
        for n in range(count):
            image = {"image": names[n % len(names)]} if n % 17 else {}
            turns = conversation(draw, words, "<image>\n" if image else "")
            file.write(json.dumps({"id": f"{n:012}", **image, "conversations": turns}))
            file.write("\n" if lines or n == count - 1 else ",\n")
        file.write("" if lines else "]\n")
    os.utime(unfinished, (0, 0))  # a file that was written just now is not remembered
    return unfinished.rename(data)


def conversation(draw: random.Random, words: list[str], before: str) -> list[dict[str, str]]:
    """Questions of 5 to 14 words, and answers of 8 to 32."""
    turns = []
    for n in range(draw.randint(1, 5)):
        question, answer = (" ".join(draw.choices(words, k=draw.randint(*size))) for size in ((5, 14), (8, 32)))
        turns.append({"from": "human", "value": f"{before if n == 0 else ''}{question.capitalize()}?"})
        turns.append({"from": "gpt", "value": f"{answer.capitalize()}."})
    return turns


def known_words() -> list[str]:
    """The longer words of the bundled model's vocabulary."""
    vocabulary = json.loads((files("mlx_llava.embedded") / "tiny-llava-hf" / "tokenizer.json").read_text())
    return sorted(piece[1:] for piece in vocabulary["model"]["vocab"] if piece.startswith("▁") and len(piece) > 5)


def images(folder: Path, count: int) -> list[str]:
    """The names of as many small images."""
    from PIL import Image

    (folder / "images").mkdir(parents=True, exist_ok=True)
    names = [f"images/{n:06}.jpg" for n in range(count)]
    for n, name in enumerate(names):
        first = folder / names[n - n % MAX_LINKS]
        if n % MAX_LINKS == 0:
            Image.new("RGB", (16, 16), (n % 256, 0, 0)).save(first)
        else:
            (folder / name).unlink(missing_ok=True)
            (folder / name).hardlink_to(first)
    return names


if __name__ == "__main__":
    main()
