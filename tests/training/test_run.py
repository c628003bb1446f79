"""A whole run of `lora`, its snapshots, and how it goes on after an interruption."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from spine import EMBEDDED, answer_of

from mlx_llava.ask import AskOptions
from mlx_llava.ask import ask as ask_program
from mlx_llava.checkpoint.folder import load
from mlx_llava.errors import CheckpointError, LlavaError, UsageError
from mlx_llava.fuse import FuseOptions, fuse
from mlx_llava.lora import lora
from mlx_llava.resolve import open_model
from mlx_llava.training import prepare
from mlx_llava.training.loss import answer_loss
from mlx_llava.training.options import LoraOptions
from mlx_llava.training.prepare import load_examples
from mlx_llava.training.snapshots import sole_writer

EXAMPLES = EMBEDDED / "examples"


@pytest.fixture(scope="module")
def options(converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> LoraOptions:
    """Six conversations, answered another way than the model does: nine steps of two."""
    folder = tmp_path_factory.mktemp("lora")
    names = ("one_shape.png", "three_shapes.png", "two_shapes_wide.png")
    rows = [
        {
            "id": f"{name}-{n}",
            "image": name,
            "conversations": [
                {"from": "human", "value": f"{question}\n<image>"},
                {"from": "gpt", "value": "blue " * (n + 1) + "circle"},
            ],
        }
        for n, question in enumerate(("What color is the circle?", "How many shapes are there?"))
        for name in names
    ]
    (folder / "train.json").write_text(json.dumps(rows))
    return LoraOptions(
        data=folder / "train.json",
        adapter_path=folder / "undisturbed",
        images=EXAMPLES,
        model=str(converted(EMBEDDED)),
        rank=4,
        alpha=8.0,
        epochs=3,
        batch_size=1,
        accumulation=2,
        learning_rate=1e-2,
        save_every=1,
        workers=0,
    )


@pytest.fixture(scope="module")
def undisturbed(options: LoraOptions) -> Path:
    """The folder of a run that nothing interrupted."""
    assert lora(options) == 0
    return options.adapter_path


def result(folder: Path) -> tuple[bytes, bytes]:
    return (folder / "adapters.safetensors").read_bytes(), (folder / "projector.safetensors").read_bytes()


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C while the line of that step is printed."""

    def log(line: str) -> None:
        if line.startswith(f"{step}/"):
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(prepare, "log", log)


def test_the_loss_falls_and_every_step_is_recorded(undisturbed: Path) -> None:
    rows = metrics(undisturbed)
    assert [row["step"] for row in rows] == [*range(1, 10)]
    assert rows[-1]["loss"] < rows[0]["loss"] / 2
    assert all(row["answer_tokens"] > 0 for row in rows)


def test_an_interrupted_run_resumes_to_the_same_bits(
    options: LoraOptions, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(options, adapter_path=tmp_path)
    for step in (1, 5):  # in the first epoch, and in the second
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            assert lora(options) == 130
    assert lora(options) == 0
    assert result(tmp_path) == result(undisturbed)
    assert [row["loss"] for row in metrics(tmp_path)] == [row["loss"] for row in metrics(undisturbed)]


def test_workers_change_nothing(options: LoraOptions, undisturbed: Path, tmp_path: Path) -> None:
    assert lora(replace(options, adapter_path=tmp_path, workers=1)) == 0
    assert result(tmp_path) == result(undisturbed)


def test_a_finished_run_has_nothing_left_to_do(options: LoraOptions, undisturbed: Path) -> None:
    before = result(undisturbed), len(metrics(undisturbed))
    assert lora(options) == 0
    assert (result(undisturbed), len(metrics(undisturbed))) == before


def test_a_damaged_snapshot_is_passed_over(options: LoraOptions, undisturbed: Path, tmp_path: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "run")
    newest = max((tmp_path / "run").glob("step-*"))
    data = bytearray((newest / "state.safetensors").read_bytes())
    data[-1] ^= 1
    (newest / "state.safetensors").write_bytes(data)
    assert lora(replace(options, adapter_path=tmp_path / "run")) == 0
    assert result(tmp_path / "run") == result(undisturbed)


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"seed": 1}, {"rank": 8}, {"as_written": True}])
def test_a_run_does_not_resume_with_other_options(
    options: LoraOptions, undisturbed: Path, change: dict[str, Any]
) -> None:
    (name,) = change
    with pytest.raises(UsageError, match=f"another {name}"):
        lora(replace(options, **change))


def test_a_run_does_not_resume_with_another_choice_of_records(options: LoraOptions, tmp_path: Path) -> None:
    images = shutil.copytree(EXAMPLES, tmp_path / "images")
    changed = replace(options, images=images, leave_out=True, epochs=2, adapter_path=tmp_path / "run")
    assert lora(changed) == 0
    (images / "one_shape.png").unlink()
    with pytest.raises(UsageError, match="another choice of records"):
        lora(changed)


def test_a_folder_with_valid_jsonl_reports_its_loss_and_trains_to_the_same_bits(
    options: LoraOptions, undisturbed: Path, tmp_path: Path
) -> None:
    rows = json.loads(options.data.read_text())
    for split, some in (("train", rows), ("valid", rows[:3])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    changed = replace(options, data=tmp_path, adapter_path=tmp_path / "run")
    assert lora(changed) == 0
    assert result(changed.adapter_path) == result(undisturbed)
    rows = [json.loads(line) for line in (changed.adapter_path / "validation.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [*range(1, 10)]
    tuned = open_model(str(options.model), adapter=changed.adapter_path)
    loss, count = answer_loss(tuned.model, load_examples(changed, tuned, "valid").batch([0, 1, 2]))
    assert rows[-1]["loss"] == pytest.approx(loss.item() / count, rel=1e-6)  # float32 sums, of one batch or of three
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_folder_has_one_writer(options: LoraOptions, undisturbed: Path) -> None:
    with sole_writer(undisturbed), pytest.raises(UsageError, match="in use by another run"):
        lora(options)


def test_adapters_answer_as_they_were_trained(
    options: LoraOptions, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(EXAMPLES / "one_shape.png"), "What color is the circle?")
    asking = AskOptions(words=words, model=options.model, adapter_path=undisturbed, decoding="training")
    assert ask_program(asking) == 0
    assert capsys.readouterr().out.endswith(" circle\n")
    assert ask_program(replace(asking, adapter_path=None)) == 0
    assert capsys.readouterr().out == answer_of("one_shape.png", words[1])["answer"] + "\n"


def test_adapters_bring_their_template_and_fit(options: LoraOptions, tmp_path: Path) -> None:
    changed = replace(options, adapter_path=tmp_path / "other", template="llava_v1", fit="pad", epochs=2)
    assert lora(changed) == 0
    fused = FuseOptions(model=str(options.model), adapter_path=tmp_path / "other", mlx_path=tmp_path / "fused")
    fuse(fused)
    tuned = open_model(str(options.model), adapter=tmp_path / "other").config
    for config in (tuned, load(tmp_path / "fused").config):
        assert (config.template, config.image.fit) == ("llava_v1", "pad")
    assert open_model(str(options.model)).config.template == "vicuna_v1"


def test_adapters_answer_a_file_of_questions(options: LoraOptions, undisturbed: Path, tmp_path: Path) -> None:
    questions, answers = tmp_path / "q.jsonl", tmp_path / "a.jsonl"
    row = {"question_id": 1, "image": "one_shape.png", "text": "What color is the circle?"}
    questions.write_text(json.dumps(row))
    asking = AskOptions(model=options.model, adapter_path=undisturbed, image_folder=EXAMPLES, decoding="training")
    assert ask_program(replace(asking, questions=questions, answers=answers)) == 0
    assert json.loads(answers.read_text())["text"].endswith(" circle")


def test_adapters_of_another_model_are_refused(options: LoraOptions, undisturbed: Path, small_model: Path) -> None:
    with pytest.raises(CheckpointError, match="belong to another model"):
        ask_program(AskOptions(words=("Hi",), model=str(small_model), adapter_path=undisturbed))


@pytest.fixture
def small_model(converted: Callable[[Path], Path], tmp_path: Path) -> Path:
    from spine import CASES, write_checkpoint

    write_checkpoint(CASES["plain"], tmp_path / "released")
    return converted(tmp_path / "released")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": Path("nowhere.json")}, "no such file"),
        ({"images": None}, "no image folder is given"),
        ({"rank": 0}, "--rank 0"),
        ({"max_tokens": 50}, "the limit is 50"),
    ],
)
def test_wrong_input_is_reported_before_the_first_step(
    options: LoraOptions, tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(LlavaError, match=words):
        lora(replace(options, adapter_path=tmp_path, **change))
    assert not (tmp_path / "metrics.jsonl").exists()
