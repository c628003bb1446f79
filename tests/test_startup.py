"""Starting is quick because nothing is loaded before it is needed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from spine import EMBEDDED

HEAVY = ("numpy", "mlx", "mlx_lm", "torch", "transformers", "tokenizers", "textual", "PIL", "tyro", "huggingface_hub")
EXAMPLES = EMBEDDED / "examples"
PROBE = """
import sys
sys.argv = ["mlx-llava", *sys.argv[1:]]
from mlx_llava.cli import main
try:
    main()
except SystemExit as stop:
    assert stop.code in (0, None), stop.code
print(",".join(name for name in {names} if name in sys.modules), file=sys.stderr)
"""


def loaded(*arguments: str) -> tuple[str, set[str]]:
    """What a command prints, and which heavy packages it loaded."""
    command = [sys.executable, "-c", PROBE.format(names=HEAVY), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout, set(done.stderr.split()[-1].split(",")) if done.stderr.split() else set()


@pytest.mark.parametrize("arguments", [(), ("--help",), ("--version",)])
def test_help_and_version_load_nothing_heavy(arguments: tuple[str, ...]) -> None:
    out, heavy = loaded(*arguments)
    assert "mlx-llava" in out
    assert heavy == set()


COMMANDS = ("ask", "chat", "convert", "doctor", "finetune", "look", "lora", "models", "pretrain")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_loads_no_model_code(command: str) -> None:
    out, heavy = loaded(command, "--help")
    assert f"mlx_llava.{command}" in out or f"mlx-llava {command}" in out
    assert heavy <= {"tyro"}


def test_the_list_of_models_loads_no_model_code() -> None:
    out, heavy = loaded("models")
    assert out.startswith("NAME")
    assert heavy <= {"huggingface_hub"}
    out, heavy = loaded("models", "pull", "--help")
    assert "mlx-llava models pull" in out
    assert heavy == set()


def test_an_answer_needs_neither_transformers_nor_torch() -> None:
    out, heavy = loaded("ask", str(EXAMPLES / "two_shapes_wide.png"), "What color is the square?")
    assert out == "The square is blue.\n"
    assert heavy == {"numpy", "mlx", "mlx_lm", "tokenizers", "PIL"}


def test_a_lora_step_needs_neither_transformers_nor_torch(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "a circle"}]
    (tmp_path / "data.json").write_text(json.dumps([{"id": "1", "image": "one_shape.png", "conversations": turns}]))
    flags = ("--data", str(tmp_path / "data.json"), "--images", str(EXAMPLES), "--adapter-path", str(tmp_path / "new"))
    _, heavy = loaded("lora", *flags, "--steps", "2", "--workers", "0", "--rank", "2")
    assert (tmp_path / "new" / "adapters.safetensors").exists()
    assert heavy == {"numpy", "mlx", "mlx_lm", "tokenizers", "PIL"}
