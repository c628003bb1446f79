"""One kind of fault has one exit code and two lines, whatever the program."""

import importlib
import json
import sys
from pathlib import Path

import pytest
from checkpoints import ORIGINAL, arrays, save

from mlx_llava.cli import COMMANDS

DATA = ["--data", "d.json", "--images", "."]
RUN = [*DATA, "--batch-size", "1"]
ADAPTERS = {
    "ask": ["ask", "--adapter-path", "NAME", "Hi"],
    "chat": ["chat", "--plain", "--incognito", "-p", "Hi", "--adapter-path", "NAME"],
    "fuse": ["fuse", "--adapter-path", "NAME", "--mlx-path", "out"],
    "export": ["export", "--adapter-path", "NAME", "--hf-path", "out"],
    "export --peft": ["export", "--peft", "--adapter-path", "NAME", "--hf-path", "out"],
    "pretrain": ["pretrain", *RUN, "--projector", "NAME", "--adapter-path", "out"],
    "finetune": ["finetune", *RUN, "--projector", "NAME", "--mlx-path", "out"],
    "lora": ["lora", *RUN, "--projector", "NAME", "--adapter-path", "out"],
}
MODELS = {
    "ask": ["ask", "--model", "NAME", "Hi"],
    "chat": ["chat", "--plain", "--incognito", "-p", "Hi", "--model", "NAME"],
    "fuse": ["fuse", "--model", "NAME", "--adapter-path", "adapters", "--mlx-path", "out"],
    "export": ["export", "--model", "NAME", "--hf-path", "out"],
    "look": ["look", *DATA, "--model", "NAME"],
    "pretrain": ["pretrain", *RUN, "--model", "NAME", "--adapter-path", "out"],
    "finetune": ["finetune", *RUN, "--model", "NAME", "--mlx-path", "out"],
    "lora": ["lora", *RUN, "--model", "NAME", "--adapter-path", "out"],
    "convert": ["convert", "--hf-path", "NAME", "--mlx-path", "out"],
    "convert --model-base": ["convert", "--hf-path", "peft", "--model-base", "NAME", "--mlx-path", "out"],
    "convert --vision-tower": ["convert", "--hf-path", "original", "--vision-tower", "NAME", "--mlx-path", "out"],
}
TRAIN = {
    "look": ["look"],
    "pretrain": ["pretrain", "--adapter-path", "out"],
    "finetune": ["finetune", "--mlx-path", "out"],
    "lora": ["lora", "--adapter-path", "out"],
}
OUTPUTS = {
    "convert": ["convert", "--hf-path", "original", "--mlx-path", "NAME"],
    "fuse": ["fuse", "--adapter-path", "adapters", "--mlx-path", "NAME"],
    "export": ["export", "--hf-path", "NAME"],
    "pretrain": ["pretrain", *RUN, "--adapter-path", "NAME"],
    "finetune": ["finetune", *RUN, "--mlx-path", "NAME"],
    "lora": ["lora", *RUN, "--adapter-path", "NAME"],
}
DATA_FILES = {
    **{name: [*words, "--data", "NAME"] for name, words in TRAIN.items()},
    "ask": ["ask", "--questions", "NAME", "--answers", "out.jsonl"],
}
IMAGE_FOLDERS = {name: [*words, "--data", "p.json", "--images", "NAME"] for name, words in TRAIN.items()}
FAULTS = {
    "no such folder": "nowhere",
    "a file": "file.txt",
    "an empty folder": "empty",
    "a folder of PEFT": "peft",
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with one of each."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path / "home"))
    Path("file.txt").write_text("text")
    for name in ("empty", "peft", "adapters"):
        Path(name).mkdir()
    Path("adapters", "adapter_config.json").write_text('{"mlx_llava": {}}')
    Path("peft", "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 4}))
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "Nothing."}]
    shown = [{"from": "human", "value": "<image>\nWhat?"}, turns[1]]
    Path("d.json").write_text(json.dumps([{"id": 1, "conversations": turns}]))
    Path("p.json").write_text(json.dumps([{"id": 1, "image": "a.png", "conversations": shown}]))
    save(Path("original"), arrays(), ORIGINAL)
    return tmp_path


def exit_of(words: list[str], name: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of a command line in which NAME is `name`."""
    command, *rest = (name if word == "NAME" else word for word in words)
    monkeypatch.setattr(sys, "argv", [f"mlx-llava {command}", *rest])
    monkeypatch.setattr("mlx.core.clear_streams", lambda: None)  # this process goes on
    with pytest.raises(SystemExit) as end:
        importlib.import_module(COMMANDS[command][0]).main()
    assert isinstance(end.value.code, int)
    return end.value.code


def check(words: list[str], name: str, code: int, place: Path, pytest_tools: "Tools") -> None:
    monkeypatch, capsys = pytest_tools
    before = {path.name for path in place.iterdir()}
    assert exit_of(words, name, monkeypatch) == code
    problem, advice = capsys.readouterr().err.splitlines()[-2:]
    assert problem.startswith(f"mlx-llava: error: {name}: "), problem
    assert advice[0].isupper()
    assert {path.name for path in place.iterdir()} - before <= {"home"}


Tools = tuple[pytest.MonkeyPatch, pytest.CaptureFixture[str]]


@pytest.fixture
def tools(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Tools:
    """What `check` needs of pytest."""
    return monkeypatch, capsys


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", ADAPTERS)
def test_adapters_that_are_not_there_are_exit_3(program: str, fault: str, place: Path, tools: Tools) -> None:
    check(ADAPTERS[program], FAULTS[fault], 3, place, tools)


@pytest.mark.parametrize(
    ("program", "fault"),  # adapters are what convert takes, with another flag
    [(program, fault) for program in MODELS for fault in FAULTS if (program, fault) != ("convert", "a folder of PEFT")],
)
def test_a_model_or_checkpoint_that_is_not_there_is_exit_3(program: str, fault: str, place: Path, tools: Tools) -> None:
    check(MODELS[program], FAULTS[fault], 3, place, tools)


@pytest.mark.parametrize("program", DATA_FILES)
def test_a_file_of_data_that_is_not_there_is_exit_2(program: str, place: Path, tools: Tools) -> None:
    check(DATA_FILES[program], "nowhere", 2, place, tools)


@pytest.mark.parametrize("fault", ["nowhere", "file.txt"])
@pytest.mark.parametrize("program", IMAGE_FOLDERS)
def test_a_folder_of_images_that_is_not_there_is_exit_2(program: str, fault: str, place: Path, tools: Tools) -> None:
    check(IMAGE_FOLDERS[program], fault, 2, place, tools)


@pytest.mark.parametrize("program", OUTPUTS)
def test_a_file_where_the_output_folder_should_be_is_exit_1(program: str, place: Path, tools: Tools) -> None:
    check(OUTPUTS[program], "file.txt", 1, place, tools)
    assert Path("file.txt").read_text() == "text"
