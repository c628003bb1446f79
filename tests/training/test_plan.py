"""What a run says before it begins, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from spine import EMBEDDED

from mlx_llava.errors import LimitError, UsageError
from mlx_llava.models import backend
from mlx_llava.training.loop import Run
from mlx_llava.training.options import LoraOptions
from mlx_llava.training.plan import plan
from mlx_llava.training.prepare import load_base, prepare

ROW = '{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "%s"}]}\n'


@pytest.fixture
def options(converted: Callable[[Path], Path], tmp_path: Path) -> LoraOptions:
    (tmp_path / "train.jsonl").write_text(ROW % "because" + ROW % ("so " * 50).strip())
    given = {"data": tmp_path, "adapter_path": tmp_path, "model": str(converted(EMBEDDED))}
    return LoraOptions(**given, workers=0, batch_size=2, warmup_ratio=0.0)


def run_of(options: LoraOptions) -> Run:
    return prepare(options, load_base(options), options.adapter_path, "projector", projector_lr=None)


def test_it_tells_what_is_trained_and_what_it_takes(options: LoraOptions) -> None:
    run = run_of(options)
    trained = sum(x.size for x in run.optimizer.masters.values()) / 1e6
    first = f"{trained:.2f} million parameters trained, 1 steps of up to 16 conversations; about "
    assert plan(run).startswith(first)
    assert run.step_memory < run_of(replace(options, batch_size=1)).step_memory * 2.01
    assert run_of(replace(options, recompute=True)).step_memory < run.step_memory


def test_a_run_that_ends_before_its_rate_rises_is_refused(options: LoraOptions) -> None:
    with pytest.raises(UsageError, match="one step of 16 conversations") as raised:
        plan(run_of(replace(options, warmup_ratio=0.03)))
    assert "--accumulation" in raised.value.advice
    assert "2 steps" in plan(run_of(replace(options, warmup_ratio=0.03, epochs=2)))


@pytest.mark.parametrize(("free", "advice"), [(0, "packed model"), (10_000_000, "--batch-size")])
def test_what_does_not_fit_is_refused_with_advice(
    options: LoraOptions, monkeypatch: pytest.MonkeyPatch, free: int, advice: str
) -> None:
    run = replace(run_of(options), step_memory=20_000_000)
    monkeypatch.setattr(backend, "memory_limit", lambda: free)
    with pytest.raises(LimitError, match="more than the") as refused:
        plan(run)
    assert advice in refused.value.advice
