"""What stays of a run that an error or a kill ends, and what goes on from there."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spine import EMBEDDED

from mlx_llava.errors import ImageError, TrainingError
from mlx_llava.lora import lora
from mlx_llava.training import meters, prepare, saver
from mlx_llava.training.meters import Meters, cut_after
from mlx_llava.training.optimizer import AdamW
from mlx_llava.training.options import LoraOptions
from mlx_llava.training.snapshots import Snapshot
from mlx_llava.training.step import Step

NAMES = ("one_shape.png", "two_shapes_wide.png", "three_shapes.png")


@pytest.fixture(scope="module")
def options(converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> LoraOptions:
    """Six conversations, each a step, in two epochs."""
    folder = tmp_path_factory.mktemp("runs")
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "a picture"}]
    rows = [{"id": n, "image": NAMES[n % 3], "conversations": said} for n in range(6)]
    (folder / "train.json").write_text(json.dumps(rows))
    return LoraOptions(
        data=folder / "train.json",
        images=EMBEDDED / "examples",
        model=str(converted(EMBEDDED)),
        adapter_path=folder / "undisturbed",
        rank=2,
        epochs=2,
        batch_size=1,
        accumulation=1,
        workers=0,
    )


@pytest.fixture(scope="module")
def undisturbed(options: LoraOptions) -> Path:
    assert lora(options) == 0
    return options.adapter_path


@pytest.fixture
def own(options: LoraOptions, tmp_path: Path) -> LoraOptions:
    """The same run in a folder of its own, with images that a test may change."""
    images = shutil.copytree(EMBEDDED / "examples", tmp_path / "images")
    return replace(options, images=images, adapter_path=tmp_path / "run")


def steps(folder: Path, file: str = "metrics.jsonl") -> list[int]:
    return [json.loads(line)["step"] for line in (folder / file).read_text().splitlines()]


def snapshots(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("step-*"))


def during(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[], Any]) -> list[str]:
    """Do something while the line of a step is printed; returns the list of all lines."""
    lines = list[str]()

    def log(line: str) -> None:
        lines.append(line)
        if line.startswith(f"{step}/"):
            act()

    monkeypatch.setattr(prepare, "log", log)
    return lines


def adapters(folder: Path) -> bytes:
    return (folder / "adapters.safetensors").read_bytes()


def kill() -> None:
    raise KeyboardInterrupt


def test_a_cut_image_is_reported_before_the_first_step_or_left_out_and_counted(
    own: LoraOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.images is not None
    image = own.images / NAMES[1]
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"2 bad records: record 2, line 1: .*damaged .*\(also record 5\)"):
        lora(own)
    assert not (own.adapter_path / "metrics.jsonl").exists()
    lines = during(monkeypatch, 0, kill)
    assert lora(replace(own, leave_out=True)) == 0
    assert steps(own.adapter_path) == [*range(1, 9)]
    assert lines[0].startswith("2 records left out: record 2")


def test_an_error_saves_the_steps_before_it_and_the_run_resumes_to_the_same_bits(
    own: LoraOptions, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.images is not None
    images, hidden = own.images, own.images.with_name("elsewhere")
    with monkeypatch.context() as patch:
        lines = during(patch, 5, lambda: images.rename(hidden))
        with pytest.raises(ImageError, match="no such file"):
            lora(own)
    assert snapshots(own.adapter_path) == ["step-00000005"]
    assert lines[-1] == "saved after step 5; once the error is fixed, run the same command again to resume"
    hidden.rename(images)
    assert lora(own) == 0
    assert adapters(own.adapter_path) == adapters(undisturbed)
    assert steps(own.adapter_path) == [*range(1, 13)]


def test_an_error_in_the_first_step_saves_nothing(own: LoraOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    assert own.images is not None
    images = own.images
    lines = during(monkeypatch, 0, kill)
    monkeypatch.setattr(prepare.charts, "draw", kill)
    monkeypatch.setattr(prepare, "plan", lambda run: [shutil.rmtree(images) or "the plan"])
    with pytest.raises(ImageError):
        lora(own)
    assert snapshots(own.adapter_path) == []
    assert lines == ["the plan"]


def test_a_killed_run_writes_each_step_once(
    own: LoraOptions, undisturbed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    rows = json.loads(own.data.read_text())
    for split in ("train", "valid"):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = replace(own, data=tmp_path, save_every=4, steps_per_eval=2)
    with monkeypatch.context() as patch:
        during(patch, 7, kill)
        with pytest.raises(KeyboardInterrupt):
            lora(options)
    assert steps(own.adapter_path) == [*range(1, 8)]
    with (own.adapter_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')
    assert lora(options) == 0
    assert steps(own.adapter_path) == [*range(1, 13)]
    assert steps(own.adapter_path, "validation.jsonl") == [*range(2, 13, 2)]
    assert adapters(own.adapter_path) == adapters(undisturbed)


def test_a_run_that_begins_anew_in_its_folder_begins_its_metrics_anew(own: LoraOptions) -> None:
    assert lora(replace(own, epochs=1)) == 0
    for folder in own.adapter_path.glob("step-*"):
        shutil.rmtree(folder)
    assert lora(own) == 0
    assert steps(own.adapter_path) == [*range(1, 13)]


@pytest.mark.parametrize("rows", [b"", b"not json\n", b'{"step": 3}\n{"step": 5}', b'{"step": 4}\n[]\n{"step": 2}\n'])
def test_only_whole_rows_up_to_a_step_are_kept(tmp_path: Path, rows: bytes) -> None:
    file = tmp_path / "metrics.jsonl"
    cut_after(file, 3)
    assert not file.exists()
    file.write_bytes(rows)
    cut_after(file, 3)
    assert [step for step in steps(tmp_path) if step > 3] == []
    assert len(steps(tmp_path)) == rows.count(b'{"step": 3}\n') + rows.count(b'{"step": 2}\n')


def test_a_run_ends_after_the_steps_that_are_asked_for(own: LoraOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    options = replace(own, epochs=None, steps=8)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and a run then does too
    with monkeypatch.context() as patch:
        during(patch, 7, lambda: signal.raise_signal(signal.SIGHUP))
        assert lora(options) == 130
    signal.signal(signal.SIGHUP, hangup)
    assert lora(options) == 0
    assert steps(own.adapter_path) == [*range(1, 9)]
    before = adapters(own.adapter_path)
    assert lora(options) == 0
    assert (adapters(own.adapter_path), steps(own.adapter_path)) == (before, [*range(1, 9)])


def test_the_time_left_ignores_the_start_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0, 3600, 3660, 3662, 3664])
    monkeypatch.setattr(meters.time, "monotonic", lambda: next(clock))
    log = Meters(tmp_path / "metrics.jsonl", 100)
    lines = [log.record(n, Step(1.0, 1, 1.0, skipped=False), {}, 1, []) for n in range(1, 5)]
    assert ["left" in line for line in lines] == [False, False, True, True]
    assert lines[-1].endswith("  3 min 12 s left")


def test_an_error_in_the_middle_of_an_update_saves_nothing_half_done(
    own: LoraOptions, undisturbed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(optimizer: AdamW, name: str, gradient: Any, factor: float) -> None:
        if optimizer.num_updates == 6 and name != min(optimizer.masters):
            raise RuntimeError("not enough memory")
        update(optimizer, name, gradient, factor)

    update = AdamW._update_one  # pyright: ignore[reportPrivateUsage]
    with monkeypatch.context() as patch:
        lines = during(patch, 0, kill)
        patch.setattr(AdamW, "_update_one", broken)
        with pytest.raises(RuntimeError, match="not enough memory"):
            lora(replace(own, save_every=4))
    assert snapshots(own.adapter_path) == ["step-00000004"]
    assert lines[-1].startswith("saved after step 4;")
    assert lora(own) == 0
    assert adapters(own.adapter_path) == adapters(undisturbed)


def test_a_save_that_fails_after_an_error_hides_neither_it_nor_the_earlier_snapshot(
    own: LoraOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own.images is not None
    images, save = own.images, saver.snapshots.save

    def full(folder: Path, snapshot: Snapshot, *rest: Any) -> Path:
        if snapshot.progress.step == 6:
            raise TrainingError("no space left", "Free some space.")
        return save(folder, snapshot, *rest)

    monkeypatch.setattr(saver.snapshots, "save", full)
    lines = during(monkeypatch, 6, lambda: shutil.rmtree(images))
    with pytest.raises(ImageError, match="no such file"):
        lora(replace(own, save_every=4))
    assert snapshots(own.adapter_path) == ["step-00000004"]
    assert lines[-2] == "no space left"
    assert lines[-1].startswith("saved after step 4;")
