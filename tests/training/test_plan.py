"""What a run reports before its first step, what it refuses, and its memory estimate against MLX's own count."""

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from spine import CASES, EMBEDDED

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.errors import LimitError, UsageError
from mlx_llava.inputs import TEXT, Batch, no_crops
from mlx_llava.models import backend
from mlx_llava.models.llama import forward
from mlx_llava.models.llava import Llava
from mlx_llava.models.lora import Lora, attach
from mlx_llava.training.loop import Run
from mlx_llava.training.options import LoraOptions
from mlx_llava.training.plan import BatchSize, plan, step_memory
from mlx_llava.training.prepare import load_base, prepare
from mlx_llava.training.recompute import recompute_block
from mlx_llava.training.step import loss_and_gradients, train_only

ROW = '{"conversations": [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "%s"}]}\n'
CONFIG = from_hf(CASES["plain"].config())
SHAPES = {
    "many short": (BatchSize(rows=16, length=48, answers=12), 4, 256, 8),
    "few long": (BatchSize(rows=2, length=256, answers=40), 3, 256, 8),
    "many words": (BatchSize(rows=4, length=64, answers=60), 2, 128, 4000),
    "deep": (BatchSize(rows=2, length=64, answers=20), 12, 352, 256),
}


@pytest.fixture
def options(converted: Callable[[Path], Path], tmp_path: Path) -> LoraOptions:
    (tmp_path / "train.jsonl").write_text(ROW % "because" + ROW % ("so " * 50).strip())
    settings = {"data": tmp_path, "adapter_path": tmp_path, "model": str(converted(EMBEDDED))}
    return LoraOptions(**settings, workers=0, batch_size=2, warmup_ratio=0.0)


def run_of(options: LoraOptions) -> Run:
    return prepare(options, load_base(options), options.adapter_path, "projector", projector_lr=None)


def test_the_plan_states_steps_parameters_and_memory(options: LoraOptions) -> None:
    run = run_of(options)
    trained = sum(x.size for x in run.optimizer.masters.values()) / 1e6
    steps, memory = plan(run)
    assert steps == "2 conversations: batch 2, 50 epochs, 50 steps; set --accumulation or --epochs to change"
    assert memory.startswith(f"{trained:.2f} million trained parameters; about ")
    assert run.step_memory < run_of(replace(options, batch_size=1)).step_memory * 2.01
    assert run_of(replace(options, recompute=True)).step_memory < run.step_memory


def test_a_run_that_ends_before_its_rate_rises_is_refused(options: LoraOptions) -> None:
    one_step = replace(options, warmup_ratio=0.03, accumulation=8, epochs=1)
    with pytest.raises(UsageError, match="2 conversations: batch 2 x 8, 1 epoch, 1 step: the only step") as raised:
        plan(run_of(one_step))
    assert "--epochs" in raised.value.advice
    assert plan(run_of(replace(one_step, epochs=2)))[0] == "2 conversations: batch 2 x 8, 2 epochs, 2 steps"


@pytest.mark.parametrize(("free", "advice"), [(0, "quantized model"), (10_000_000, "--batch-size")])
def test_what_does_not_fit_is_refused_with_advice(
    options: LoraOptions, monkeypatch: pytest.MonkeyPatch, free: int, advice: str
) -> None:
    run = replace(run_of(options), step_memory=20_000_000)
    monkeypatch.setattr(backend, "memory_limit", lambda: free)
    with pytest.raises(LimitError, match="more than the available") as refused:
        plan(run)
    assert advice in refused.value.advice


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("name", SHAPES)
def test_the_estimate_is_within_a_factor_of_one_and_a_half(name: str, recompute: bool) -> None:
    size, layers, hidden, words = SHAPES[name]
    text = replace(
        CONFIG.text,
        hidden_size=128,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        intermediate_size=hidden,
        num_hidden_layers=layers,
        vocab_size=max(words, 64),
    )
    model = Llava(replace(CONFIG, text=text))
    attach(model, Lora(2, 4.0, 0.0))
    train_only(model, "adapters")
    mx.eval(model.parameters())
    shape = size.rows, size.length
    mask = np.zeros(shape, bool)
    mask[:, -size.answers :] = True
    batch = Batch(np.ones(shape, np.int32), np.full(shape, TEXT, np.int32), mask, no_crops(), np.array(shape[:1]))
    gc.collect()  # or arrays of earlier tests are freed while this measures
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    loss, _, gradients = loss_and_gradients(model, batch, recompute_block if recompute else forward)
    mx.eval(loss, gradients)
    measured = mx.get_peak_memory() - before
    assert measured / 1.5 < step_memory(text, size, 4, recompute=recompute) < measured * 1.5
