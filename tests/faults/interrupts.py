"""Interrupt programs at random moments of their first second: each must end at once, without a traceback.

    python tests/faults/interrupts.py --number 60

A test interrupts them at chosen imports (tests/program/test_run.py); this tries the moments between.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "mlx_llava" / "embedded" / "tiny-llava-hf" / "examples"
IMAGE = EXAMPLES / "one_shape.png"
WINDOW = 0.04, 1.2  # seconds after the start; before that it is Python that starts
PATIENCE = 20  # seconds after which a program has missed the signal


def main() -> None:
    """Print how the programs ended; exit with 1 if one went on or printed a traceback."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, ends = random.Random(options.seed), Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLX_LLAVA_HOME"] = folder
        commands = programs(Path(folder))
        for number in range(options.number):
            name = [*commands][number % len(commands)]
            ends[f"{name}: {interrupted(commands[name], rng.uniform(*WINDOW))}"] += 1
    for end, count in sorted(ends.items()):
        print(f"{count:4} {end}")
    sys.exit(any("went on" in end or "traceback" in end for end in ends))


def programs(folder: Path) -> dict[str, list[str]]:
    """Commands that take longer than the window, by name."""
    turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "red"}]
    data = folder / "train.json"
    data.write_text(json.dumps([{"image": IMAGE.name, "conversations": turns}] * 8))
    sizes = "--rank 4 --epochs 400 --batch-size 2 --accumulation 1".split()
    return {
        "ask": ["ask", str(IMAGE), "Describe the picture."],
        "lora": ["lora", "--data", str(data), "--images", str(EXAMPLES), "--adapter-path", str(folder / "out"), *sizes],
    }


def interrupted(words: list[str], seconds: float) -> str:
    """How a program ends that is interrupted after some seconds."""
    command = [sys.executable, "-m", "mlx_llava", *words]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    try:
        error = process.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "went on"
    return f"exit code {process.returncode}" + ", with a traceback" * ("Traceback" in error)


if __name__ == "__main__":
    main()
