"""A name is a folder or a repository; a server on this machine stands in for the hub."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import serving

from mlx_llava.checkpoint.hub import fetch
from mlx_llava.errors import ModelError, NetworkError

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.model": b"pieces",
    "README.md": b"words",
    "modeling.py": b"raise SystemExit",
    "pytorch_model.bin": b"pickle",
    "chat_template.jinja": b"{{ 0 }}",
    "onnx/config.json": b"{}",
    "checkpoint-1/model.safetensors": b"more weights",
}
PICKLES = {name: body for name, body in FILES.items() if not name.endswith(".safetensors")}
REPOSITORIES = {"owner/llava": FILES, "owner/pickles": PICKLES}

# Fetches each repository in turn and prints what came of it.
CLIENT = """
import json, sys
from mlx_llava.errors import LlavaError
from mlx_llava.checkpoint.hub import fetch
for name in sys.argv[1:]:
    try:
        folder = fetch(*name.split("@"))
        print(json.dumps(sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))))
    except LlavaError as error:
        print(json.dumps([type(error).__name__, error.exit_code, error.problem, error.advice]))
"""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    """Address of a hub."""
    with serving(REPOSITORIES) as address:
        yield address


def fetched(cache: Path, endpoint: str, *names: str) -> list[list[Any]]:
    """What a process of its own gets for each name."""
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, *names],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # progress bars of the library
        text=True,
        env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0"},
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_only_the_files_of_a_checkpoint_are_downloaded_and_then_kept(hub: str, tmp_path: Path) -> None:
    assert fetched(tmp_path, hub, "owner/llava") == [["config.json", "model.safetensors", "tokenizer.model"]]
    gone = "http://127.0.0.1:9"  # the discard port: nothing listens
    kept, missing = fetched(tmp_path, gone, "owner/llava", "owner/other")
    assert kept == ["config.json", "model.safetensors", "tokenizer.model"]
    assert missing == [
        "NetworkError",
        7,
        "owner/other: not on this machine, and the hub cannot be reached",
        "Connect, or name a local folder.",
    ]


def test_what_the_hub_refuses_is_told_apart(hub: str, tmp_path: Path) -> None:
    names = [
        "owner/none",
        "owner/llava@old",
        "owner/gated",
        "owner/down",
        "owner/pickles",
        "owner/portal",
        "../missing",
    ]
    answers = fetched(tmp_path, hub, *names)
    assert [(kind, code, problem) for kind, code, problem, _ in answers[:5]] == [
        ("ModelError", 3, "owner/none: no such folder, and no such repository on the hub"),
        ("ModelError", 3, "owner/llava: no revision old"),
        ("ModelError", 3, "owner/gated: gated repository"),
        ("NetworkError", 7, "owner/down: not on this machine, and the hub cannot be reached"),
        ("ModelError", 3, "owner/pickles: the repository has no .safetensors weights"),
    ]
    kind, code, problem, advice = answers[5]
    assert (kind, code, advice) == ("NetworkError", 7, "Try again: finished files are kept.")
    assert problem.startswith("owner/portal: the download failed (")
    assert answers[6][:2] == ["ModelError", 3]


def test_a_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fetch(str(tmp_path)) == tmp_path
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert fetch("~/model") == tmp_path / "model"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/b/c", "no such folder"),
        ("nothing", "no such folder"),
        ("~nobody/x y", "no such folder"),
        ("", "an empty name: no such folder"),
    ],
)
def test_a_name_that_is_neither_is_refused_without_asking_anyone(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        fetch(name)


def test_a_file_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"a file, not a folder\n.*Name the folder"):
        fetch(str(tmp_path / "model.safetensors"))


def test_offline_is_said_to_be_so() -> None:
    with pytest.raises(NetworkError, match="not on this machine, and HF_HUB_OFFLINE is set"):
        fetch("owner/a-model-that-nobody-has")
