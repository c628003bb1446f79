"""What a run does with steps that are not finite, and what it tells of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lessons import lessons, tiny
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.data.batches import Order
from mlx_llava.errors import TrainingError
from mlx_llava.inputs import Batch, Example, collate
from mlx_llava.training.loop import MAX_SKIPPED, METRICS, Run, train
from mlx_llava.training.optimizer import AdamW, OptimizerOptions
from mlx_llava.training.step import train_only

ROWS = from_hf(CASES["plain"].config()).rows_per_crop


class Lessons:
    """Four examples, of which some show a picture of no numbers; as records they stand at 100 and on."""

    features = None

    def __init__(self, broken: set[int]) -> None:
        self.broken = broken
        self.dataset = self

    def number(self, index: int) -> int:
        return 100 + index

    def batch(self, indices: list[int]) -> Batch:
        made = []
        for index in indices:
            example = lessons()[index % 3]
            crops = np.full_like(example.crops, np.nan) if index in self.broken else example.crops
            made.append(Example(example.tokens, example.slots, example.label_mask, crops))
        return collate(made, ROWS)


def run(folder: Path, broken: set[int], count: int = 6) -> Run:
    model = tiny()
    train_only(model, "projector")
    return Run(
        model=model,
        optimizer=AdamW(model, OptimizerOptions(1e-3)),
        examples=Lessons(broken),  # pyright: ignore[reportArgumentType]
        order=Order([10] * count, 1, 2, grouped=False),
        num_epochs=1,
        warmup_ratio=0.0,
        per_batch_mean=False,
        save_every=100,
        num_workers=0,
        folder=folder,
        identity={},
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_skipped_step_names_its_records(tmp_path: Path) -> None:
    work = run(tmp_path, broken={4})
    batches = work.order.batches(0)
    assert train(work, lambda line: None)
    told = metrics(tmp_path)
    (skipped,) = [row for row in told if row["loss"] is None]
    pair = batches[2 * (skipped["step"] - 1) :][:2]
    assert skipped["records"] == [100 + index for batch in pair for index in batch]
    assert 104 in skipped["records"]
    assert all("records" not in row for row in told if row is not skipped)


def test_many_skipped_steps_in_a_row_end_the_run_and_name_the_last_records(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"in the last: records 1\d\d, 1\d\d\n"):
        train(run(tmp_path, broken={*range(40)}, count=40), lambda line: None)
    assert len(metrics(tmp_path)) == MAX_SKIPPED
