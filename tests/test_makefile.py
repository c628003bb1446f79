"""`make ask` does what it says: its own command lines, run from another folder."""

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
VARIABLES = {"$(BIN)/mlx-llava": f"{sys.executable} -m mlx_llava"}


def commands(target: str) -> list[list[str]]:
    """The command lines of a target, variables expanded."""
    text = (ROOT / "Makefile").read_text()
    tiny = re.search(r"^TINY := (\S+)$", text, re.MULTILINE)
    rule = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", text, re.MULTILINE)
    assert tiny
    assert rule
    lines = rule[1]
    for name, value in {**VARIABLES, "$(TINY)": str(ROOT / tiny[1])}.items():
        lines = lines.replace(name, value)
    return [shlex.split(line) for line in lines.splitlines()]


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder in which the target ran, and the standard output of each command."""
    folder = tmp_path_factory.mktemp("ask")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLX_LLAVA_HOME": str(folder / "home")}
    answers = []
    for command in commands("ask"):
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        answers.append(done.stdout)
    return folder, answers


def test_make_ask_quantizes_every_layer_of_the_language_model(outputs: tuple[Path, list[str]]) -> None:
    config = json.loads((outputs[0] / "out" / "tiny" / "config.json").read_text())
    forms = [(form["bits"], form["group_size"]) for form in config["quantization"].values()]
    assert forms == [(4, 32)] * (7 * config["text_config"]["num_hidden_layers"] + 2)
    size = (outputs[0] / "out" / "tiny" / "model.safetensors").stat().st_size
    assert size < 0.6 * (ROOT / "mlx_llava" / "embedded" / "tiny-llava-hf" / "model.safetensors").stat().st_size


def test_make_ask_answers(outputs: tuple[Path, list[str]]) -> None:
    assert "blue" in outputs[1][-1]
