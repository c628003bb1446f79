"""How often a run reports and validates, and on how many batches."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from spine import EMBEDDED

from mlx_llava.lora import lora
from mlx_llava.training import prepare
from mlx_llava.training.options import LoraOptions

ANSWERS = {"train": ["red", "red"], "valid": ["red", "a much longer answer"]}


@pytest.fixture
def options(converted: Callable[[Path], Path], tmp_path: Path) -> LoraOptions:
    for split, answers in ANSWERS.items():
        rows = [[{"from": "human", "value": "What?"}, {"from": "gpt", "value": text}] for text in answers]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"conversations": row}) + "\n" for row in rows))
    return LoraOptions(
        data=tmp_path,
        model=str(converted(EMBEDDED)),
        adapter_path=tmp_path / "out",
        rank=2,
        batch_size=1,
        steps=7,
        workers=0,
    )


def test_lines_come_after_every_few_steps_and_after_the_last(
    options: LoraOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = list[str]()
    monkeypatch.setattr(prepare, "log", lines.append)
    assert lora(replace(options, steps_per_report=3, steps_per_eval=4)) == 0
    assert [line.split("/")[0] for line in lines if "/7  loss" in line] == ["3", "6", "7"]
    assert [line.split()[-1] for line in lines if line.startswith("validation loss")] == ["4", "7"]
    assert len((options.adapter_path / "metrics.jsonl").read_text().splitlines()) == 7


def test_a_validation_loss_of_one_batch_is_that_of_the_first(options: LoraOptions) -> None:
    losses = list[float]()
    for name, num_batches in (("first", 1), ("all", None), ("more", 9)):
        folder = options.adapter_path / name
        assert lora(replace(options, adapter_path=folder, learning_rate=0.0, val_batches=num_batches)) == 0
        losses.append(json.loads((folder / "validation.jsonl").read_text())["loss"])
    file = options.data / "valid.jsonl"
    file.write_text(file.read_text().splitlines(keepends=True)[0])
    folder = options.adapter_path / "alone"
    assert lora(replace(options, adapter_path=folder, learning_rate=0.0)) == 0
    alone = json.loads((folder / "validation.jsonl").read_text())["loss"]
    assert losses == [alone, losses[1], losses[1]]
    assert losses[1] != alone
