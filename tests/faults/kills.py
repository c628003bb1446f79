"""Kill a training run at random, again and again: it must end with the bits of one that nothing disturbed.

    python tests/faults/kills.py --kills 40

After each kill the newest snapshot is read, so that damage is seen where it happens, and the same command goes on.
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
MOST_STEPS = 5  # between two kills
STEP = re.compile(r"\d+/\d+ ")


@dataclass(frozen=True)
class Told:
    """What became of a run that was killed."""

    kills: int
    in_a_save: int
    """Kills that left a half-written snapshot aside."""
    hashes: tuple[str, str]
    """Of the result of the undisturbed run, and of the killed one."""


def main() -> None:
    """Print what happened; exit 1 where the hashes differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        told = kill(Path(folder), options.kills, options.seed)
    print(f"{told.kills} kills, {told.in_a_save} of them in a save; undisturbed {told.hashes[0]}")
    print("the same bits" if len({*told.hashes}) == 1 else f"ANOTHER RESULT {told.hashes[1]}")
    sys.exit(len({*told.hashes}) - 1)


def kill(folder: Path, kills: int, seed: int) -> Told:
    """Run undisturbed, then with so many kills at random moments."""
    data = folder / "train.json"
    data.write_text(json.dumps([row(name, answer) for name in NAMES for answer in ("blue", "red circle")]))
    epochs = -(-(MOST_STEPS + 2) * (kills + 1) // 6)  # six steps each: enough for all kills
    finish(start(folder / "undisturbed", data, epochs))
    chance, in_a_save = random.Random(seed), 0
    for _ in range(kills):
        kill_one(start(folder / "killed", data, epochs), chance)
        in_a_save += any((folder / "killed").glob(".aside-*"))  # those of the kill before were swept away
        check(folder / "killed")
    finish(start(folder / "killed", data, epochs))
    return Told(kills, in_a_save, (digest(folder / "undisturbed"), digest(folder / "killed")))


def row(name: str, answer: str) -> dict[str, object]:
    """A conversation about a picture, with an answer that has to be learned."""
    turns = [{"from": "human", "value": "What is it?\n<image>"}, {"from": "gpt", "value": answer}]
    return {"id": f"{name} {answer}", "image": name, "conversations": turns}


def start(to: Path, data: Path, epochs: int) -> "subprocess.Popen[str]":
    """A run that saves after every step; its lines come through a pipe."""
    flags = {"data": data, "images": EXAMPLES, "adapter-path": to, "epochs": epochs, "rank": 4, "save-every": 1}
    flags |= {"batch-size": 1, "accumulation": 1, "workers": 0, "learning-rate": 1e-3, "dropout": 0.1}
    words = [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "mlx_llava.lora", *words]
    env = {**os.environ, "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # for small matrices the fastest
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, env=env, text=True)


def finish(process: "subprocess.Popen[str]") -> None:
    """Let a run come to its end."""
    _, said = process.communicate()
    if process.returncode:
        raise AssertionError(f"exit code {process.returncode}: {said[-2000:]}")


def kill_one(process: "subprocess.Popen[str]", chance: random.Random) -> None:
    """SIGKILL after some steps of this life, at any moment of the next one or of its save."""
    assert process.stderr is not None
    steps, times = chance.randint(1, MOST_STEPS), [time.monotonic()]
    for line in process.stderr:
        if STEP.match(line):
            times.append(time.monotonic())
            if len(times) > steps:
                break
    else:
        raise AssertionError(f"ended by itself with code {process.wait()}, before it was killed")
    usual = times[-1] - times[-2] if steps > 1 else 0.1
    time.sleep(chance.uniform(0, 1.2 * usual))
    process.kill()
    process.wait()
    process.stderr.close()


def check(folder: Path) -> None:
    """Every snapshot that bears a good name is whole."""
    for snapshot in folder.glob("step-*"):
        manifest = json.loads((snapshot / "manifest.json").read_text())
        state = (snapshot / "state.safetensors").read_bytes()
        assert hashlib.sha256(state).hexdigest() == manifest["sha256"], f"{snapshot} is damaged"


def digest(folder: Path) -> str:
    """A hash of the result."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in RESULT)).hexdigest()[:16]


if __name__ == "__main__":
    main()
