"""What a resumed run must repeat, and the names that mlx-lm has for options."""

from pathlib import Path
from typing import Any

import pytest

from mlx_llava.program.options import parse
from mlx_llava.training.options import FinetuneOptions, LoraOptions, PretrainOptions, TrainingOptions, fixed_settings

SHARED = (
    "template fit epochs batch_size accumulation group_by_length learning_rate warmup_ratio weight_decay "
    "max_grad_norm max_tokens leave_out as_written per_batch_mean seed"
)
OUT = Path("out")


@pytest.mark.parametrize(
    ("options", "more"),
    [
        (PretrainOptions(data=OUT, adapter_path=OUT), "new_projector"),
        (FinetuneOptions(data=OUT, mlx_path=OUT), "mm_projector_lr"),
        (LoraOptions(data=OUT, adapter_path=OUT), "rank alpha dropout freeze_projector mm_projector_lr"),
    ],
)
def test_a_run_is_known_by_the_settings_that_snapshots_already_hold(options: TrainingOptions, more: str) -> None:
    settings = fixed_settings(options)
    assert settings.pop("steps") is None  # like a key that a snapshot lacks
    assert settings.keys() == {*SHARED.split(), *more.split()}


@pytest.mark.parametrize("program", [PretrainOptions, FinetuneOptions, LoraOptions])
@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--grad-accumulation-steps 2", "accumulation", 2),
        ("--iters 3", "steps", 3),
        ("--grad-checkpoint", "recompute", True),
        ("--max-seq-length 300", "max_tokens", 300),
        ("--steps-per-eval 4", "steps_per_eval", 4),
        ("--steps-per-report 5", "steps_per_report", 5),
        ("--val-batches 6", "val_batches", 6),
        ("--recompute True", "recompute", True),
        ("--recompute False", "recompute", False),
        ("--no-recompute", "recompute", False),
    ],
)
def test_names_and_spellings_of_mlx_lm_and_the_documentation(
    program: type[TrainingOptions], words: str, field: str, value: Any
) -> None:
    folder = "--mlx-path" if program is FinetuneOptions else "--adapter-path"
    options = parse(program, "mlx-llava lora", ["--data", "d.json", folder, "out", *words.split()])
    assert getattr(options, field) == value
