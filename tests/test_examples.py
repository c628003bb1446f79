"""The examples run by themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))
SAYS = {"ask_a_picture": " tokens were new", "logits_of_a_batch": "tokens, next: "}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_and_is_short(example: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "MLX_LLAVA_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, example], capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert SAYS[example.stem] in done.stdout
    assert len(example.read_text().splitlines()) <= 40
