"""Kill a training run at random moments: its result must equal that of an undisturbed run, bit for bit.

    python tests/faults/kills.py --kills 40

Every snapshot is checked after each kill, so that damage is detected where it happens; then the same command resumes.
"""

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[2] / "mlx_llava" / "embedded" / "tiny-llava-hf" / "examples"
NAMES = ("one_shape.png", "three_shapes.png", "two_shapes_wide.png")
RESULT = ("adapters.safetensors", "projector.safetensors")
MAX_STEPS = 5  # between two kills
STEP = re.compile(r"\d+/\d+ ")


@dataclass(frozen=True)
class Outcome:
    """The result of a run that was killed."""

    kills: int
    kills_in_save: int
    """Kills that left a partially written snapshot."""
    hashes: tuple[str, str]
    """Hash of the result of the undisturbed run, and of the killed one."""


def main() -> None:
    """Print the outcome; exit with 1 if the hashes differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = run_with_kills(Path(folder), options.kills, options.seed)
    undisturbed, killed = outcome.hashes
    print(f"kills: {outcome.kills}, of which during a save: {outcome.kills_in_save}; undisturbed run: {undisturbed}")
    print("identical results" if killed == undisturbed else f"DIFFERENT RESULT: {killed}")
    sys.exit(killed != undisturbed)


def run_with_kills(folder: Path, kills: int, seed: int) -> Outcome:
    """Train once undisturbed, and once with `kills` kills at random moments."""
    data = folder / "train.json"
    data.write_text(json.dumps([record(name, answer) for name in NAMES for answer in ("blue", "red circle")]))
    epochs = -(-(MAX_STEPS + 2) * (kills + 1) // 6)  # of six steps each: enough for all kills
    finish(start(folder / "undisturbed", data, epochs))
    rng, kills_in_save = random.Random(seed), 0
    for _ in range(kills):
        kill_one(start(folder / "killed", data, epochs), rng)
        kills_in_save += any((folder / "killed").glob(".aside-*"))  # a run deletes those of earlier kills
        check(folder / "killed")
    finish(start(folder / "killed", data, epochs))
    return Outcome(kills, kills_in_save, (digest(folder / "undisturbed"), digest(folder / "killed")))


def record(name: str, answer: str) -> dict[str, object]:
    """A conversation about an image, with an answer to learn."""
    turns = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": answer}]
    return {"id": f"{name} {answer}", "image": name, "conversations": turns}


def start(to: Path, data: Path, epochs: int) -> "subprocess.Popen[str]":
    """Start a run that saves after every step and logs to a pipe."""
    flags = {"data": data, "images": EXAMPLES, "adapter-path": to, "epochs": epochs, "rank": 4, "save-every": 1}
    flags |= {"batch-size": 1, "accumulation": 1, "workers": 0, "learning-rate": 1e-3, "dropout": 0.1}
    arguments = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "mlx_llava.lora", *arguments]
    env = {**os.environ, "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # fastest for small matrices
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, text=True)


def finish(process: "subprocess.Popen[str]") -> None:
    """Wait for a run to succeed."""
    _, log = process.communicate()
    if process.returncode:
        raise AssertionError(f"exit code {process.returncode}: {log[-2000:]}")


def kill_one(process: "subprocess.Popen[str]", rng: random.Random) -> None:
    """SIGKILL a run after 1 to MAX_STEPS steps, at a random moment of the next step or its save."""
    assert process.stderr is not None
    steps, times = rng.randint(1, MAX_STEPS), [time.monotonic()]
    for line in process.stderr:
        if STEP.match(line):
            times.append(time.monotonic())
            if len(times) > steps:
                break
    else:
        raise AssertionError(f"exited with {process.wait()} before it was killed")
    step_seconds = times[-1] - times[-2] if steps > 1 else 0.1
    time.sleep(rng.uniform(0, 1.2 * step_seconds))
    process.kill()
    process.wait()
    process.stderr.close()


def check(folder: Path) -> None:
    """Raise AssertionError unless every snapshot that has its final name is complete."""
    for snapshot in folder.glob("step-*"):
        manifest = json.loads((snapshot / "manifest.json").read_text())
        state = (snapshot / "state.safetensors").read_bytes()
        assert hashlib.sha256(state).hexdigest() == manifest["sha256"], f"{snapshot} is damaged"


def digest(folder: Path) -> str:
    """Hash of the result."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in RESULT)).hexdigest()[:16]


if __name__ == "__main__":
    main()
