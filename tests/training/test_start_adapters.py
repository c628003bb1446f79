"""A LoRA run starts from the adapters of another run, exactly, or refuses them."""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spine import EMBEDDED

from mlx_llava.errors import ModelError, UsageError
from mlx_llava.lora import lora
from mlx_llava.training import prepare
from mlx_llava.training.options import LoraOptions

FILES = ("adapters.safetensors", "projector.safetensors")


@pytest.fixture(scope="module")
def options(converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> LoraOptions:
    """Four steps on one image; `first` holds their adapters."""
    folder = tmp_path_factory.mktemp("runs")
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a picture"}]
    (folder / "train.json").write_text(json.dumps([{"image": "one_shape.png", "conversations": said}]))
    return LoraOptions(
        data=folder / "train.json",
        images=EMBEDDED / "examples",
        model=str(converted(EMBEDDED)),
        adapter_path=folder / "first",
        rank=2,
        steps=4,
        workers=0,
    )


@pytest.fixture(scope="module")
def first(options: LoraOptions) -> Path:
    assert lora(options) == 0
    return options.adapter_path


def weights(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in FILES]


@pytest.mark.parametrize("file", ["", "adapters.safetensors"])
@pytest.mark.parametrize("freeze_projector", [False, True])
def test_without_a_learning_rate_the_adapters_stay_as_they_were(
    options: LoraOptions, first: Path, tmp_path: Path, file: str, freeze_projector: bool
) -> None:
    rates = {"learning_rate": 0.0, "mm_projector_lr": 0.0, "freeze_projector": freeze_projector}
    again = replace(options, adapter_path=tmp_path, resume_adapter_file=first / file, **rates)
    assert lora(again) == 0
    assert weights(tmp_path) == weights(first)


def test_an_interrupted_run_that_started_from_adapters_ends_with_the_same_bits(
    options: LoraOptions, first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(line: str) -> None:
        if line.startswith("2/"):
            signal.raise_signal(signal.SIGINT)

    again = replace(options, adapter_path=tmp_path / "whole", resume_adapter_file=first)
    assert lora(again) == 0
    halted = replace(again, adapter_path=tmp_path / "halted")
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "log", stop)
        assert lora(halted) == 130
    with pytest.raises(UsageError, match="another resume_adapter_file"):
        lora(replace(halted, resume_adapter_file=None))
    assert lora(halted) == 0
    assert weights(tmp_path / "halted") == weights(tmp_path / "whole") != weights(first)


@pytest.mark.parametrize(
    ("change", "problem", "advice"),
    [
        ({"rank": 4}, "other settings", "--rank 2 --alpha 256 --dropout 0.05 --template vicuna_v1 --fit pad"),
        ({"fit": "crop"}, "other settings", "--fit pad"),
        ({"projector": Path("p")}, "exclude each other", "Leave one out"),
        ({"adapter_path": None}, "both --resume-adapter-file and", "another folder"),
    ],
)
def test_adapters_that_do_not_suit_the_run_are_refused(
    options: LoraOptions, first: Path, tmp_path: Path, change: dict[str, Any], problem: str, advice: str
) -> None:
    changed = {"adapter_path": tmp_path / "out"} | {n: first if v is None else v for n, v in change.items()}
    with pytest.raises(UsageError, match=problem) as raised:
        lora(replace(options, resume_adapter_file=first, **changed))
    assert advice in raised.value.advice
    assert not (tmp_path / "out").exists()


def test_adapters_that_are_not_there_are_refused_before_the_model_is_loaded(
    options: LoraOptions, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="no such folder"):
        lora(replace(options, model="gone", adapter_path=tmp_path / "out", resume_adapter_file=tmp_path / "none"))
