"""What a resumed run must repeat."""

from pathlib import Path

import pytest

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
