"""Steps that are not finite: what a run does with them and reports. Memory that the process keeps."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lessons import lessons, tiny
from spine import CASES

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.errors import TrainingError
from mlx_llava.inputs import Batch, collate
from mlx_llava.training.loop import MAX_SKIPPED, METRICS, Run, train
from mlx_llava.training.optimizer import AdamW, OptimizerOptions
from mlx_llava.training.options import TrainingOptions
from mlx_llava.training.sizes import sizes_of
from mlx_llava.training.step import train_only

ROWS = from_hf(CASES["plain"].config()).rows_per_crop
PROGRAM = """
import resource
import mlx.core as mx
from mlx_llava.training.loop import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        mx.eval(mx.zeros((48, 2**20 // 4)) + 1)  # 48 MiB: more than glibc keeps by itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
before, keeps = faults(), keep_freed_memory()
faults()
print(int(keeps), before, faults())
"""


class Lessons:
    """Four examples, some with an image of NaN; their record numbers begin at 100."""

    feature_files = None

    def __init__(self, broken: set[int], count: int) -> None:
        self.broken = broken
        self.lengths = [10] * count
        self.dataset = self

    def number(self, index: int) -> int:
        return 100 + index

    def batch(self, indices: list[int]) -> Batch:
        examples = []
        for index in indices:
            example = lessons()[index % 3]
            crops = np.full_like(example.crops, np.nan) if index in self.broken else example.crops
            examples.append(replace(example, crops=crops))
        return collate(examples)


def run(folder: Path, broken: set[int], count: int = 6) -> Run:
    model = tiny()
    train_only(model, "projector")
    sizes = {
        "epochs": 1,
        "batch_size": 1,
        "accumulation": 2,
        "group_by_length": False,
        "warmup_ratio": 0.0,
        "workers": 0,
    }
    options = TrainingOptions(data=folder, **sizes)
    return Run(
        model=model,
        optimizer=AdamW(model, OptimizerOptions(1e-3)),
        examples=Lessons(broken, count),  # pyright: ignore[reportArgumentType]
        options=options,
        sizes=sizes_of(options, count),
        folder=folder,
        identity={},
    )


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_skipped_step_names_its_records(tmp_path: Path) -> None:
    work = run(tmp_path, broken={4})
    batches = work.order.batches(0)
    assert train(work, lambda line: None)
    rows = metrics(tmp_path)
    (skipped,) = [row for row in rows if row["loss"] is None]
    pair = batches[2 * (skipped["step"] - 1) :][:2]
    assert skipped["records"] == [100 + index for batch in pair for index in batch]
    assert 104 in skipped["records"]
    assert all("records" not in row for row in rows if row is not skipped)


def test_many_skipped_steps_in_a_row_end_the_run_and_name_the_last_records(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the last one: records 1\d\d, 1\d\d\n"):
        train(run(tmp_path, broken={*range(40)}, count=40), lambda line: None)
    assert len(metrics(tmp_path)) == MAX_SKIPPED


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc alone hands memory back like this")
def test_large_arrays_stop_causing_page_faults() -> None:
    output = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    keeps, before, after = map(int, output.split())
    if not keeps:
        pytest.skip("another C library, or MLX computes on a GPU")
    assert after < before / 10
