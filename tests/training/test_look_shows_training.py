"""What `mlx-llava look` shows is what the batches of training hold, whatever the stage and the options."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from spine import CASES, EMBEDDED, write_checkpoint

from mlx_llava.errors import ImageError, RecordError, UsageError
from mlx_llava.look import STAGES, LookOptions, look, records_shown, stage_defaults, training_examples
from mlx_llava.program.options import parse
from mlx_llava.training import prepare
from mlx_llava.training.options import TrainingOptions

IMAGES = EMBEDDED / "examples"
ONE, TWO, THREE = (str(IMAGES / f"{name}.png") for name in ("one_shape", "two_shapes_wide", "three_shapes"))
OUT = {"lora": "--adapter-path", "finetune": "--mlx-path", "pretrain": "--adapter-path"}
EVERY_STAGE = ["", "--as-written", "--template v0", "--template mpt --fit pad", "--fit crop", "--max-tokens 140"]
RECIPES = [
    "pretrain:v1_5_7b_pretrain",
    "pretrain:tiny_pretrain",
    "lora:v1_5_7b_lora",
    "finetune:scienceqa",
    "lora:own.toml",
]
OWN = 'program = "lora"\ntemplate = "mistral_instruct"\nmax_tokens = 120\nas_written = true\nleave_out = true\n'


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def parts(*names: str) -> dict[str, Any]:
    content = [{"type": "text", "text": "Which is red?"}, *({"type": "image", "image": name} for name in names)]
    return {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "both"}]}


ROWS = [
    {"image": "one_shape.png", "conversations": turns("What is it? <image>", "a circle")},
    {"image": ONE, "conversations": turns("<image>\nWhat?", "red", "And <s> now?", "blue")},
    {"image": ["one_shape.png", TWO], "conversations": turns("A <image> and a <image>?", "yes")},
    {"images": ["one_shape.png", "three_shapes.png"], **parts("three_shapes.png", "one_shape.png")},
    {"images": [THREE], **parts()},
    {"conversations": [{"from": "system", "value": "Be brief."}, *turns("How many? " * 40, "two")]},
    {"video": "a.mp4", "conversations": turns("<video>\nWhat?", "x")},
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of every kind, of which some are bad, and a recipe."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    (folder / "own.toml").write_text(OWN)
    return folder


def trained(options: TrainingOptions, tmp_path: Path) -> dict[str, list[NDArray[Any]]]:
    """Tokens, slots, label mask and crops of each record, by its id, from the batches of a run."""
    run = prepare.prepare(options, prepare.load_base(options), tmp_path, "projector", projector_lr=None)
    found = {}
    for _, indices in run.order.jobs(1):
        batch, crops = run.examples.batch(indices), 0
        for row, index in enumerate(indices):
            length = batch.lengths[row]
            columns = [column[row, :length] for column in (batch.tokens, batch.slots, batch.label_mask)]
            record = run.examples.dataset[index]
            first_row = columns[1][columns[1] >= 0].min(initial=2**31 - 1)
            columns[1] = np.where(columns[1] >= 0, columns[1] - first_row, columns[1])  # rows count through the batch
            found[record.id] = [*columns, *batch.crops[crops : crops + len(record.images)]]
            crops += len(record.images)
    return found


def shown(options: LookOptions) -> dict[str, list[NDArray[Any]]]:
    """The same from the examples that look prints."""
    records, examples = records_shown(replace(options, batch_size=len(ROWS)), training_examples(options))
    columns = ([e.tokens, e.slots, e.label_mask, *e.crops] for e in examples)
    return {record.id: arrays for record, arrays in zip(records, columns, strict=True)}


def assert_same(stage: str, flags: list[str], tmp_path: Path, *, say_stage: bool = True) -> None:
    """The arrays of every record are equal, with these flags and batches of three."""
    flags = [*flags, "--workers", "0"]
    training = [*flags, OUT[stage], str(tmp_path / "out"), "--batch-size", "3", "--accumulation", "1"]
    run = trained(parse(STAGES[stage], stage, training), tmp_path)
    looked = shown(parse(LookOptions, "look", [*flags, *(["--stage", stage] if say_stage else [])], stage_defaults))
    assert looked.keys() == run.keys() != set()
    for key, arrays in looked.items():
        for ours, theirs in zip(arrays, run[key], strict=True):
            np.testing.assert_array_equal(ours, theirs, err_msg=f"record {key}")


@pytest.mark.parametrize("options", EVERY_STAGE)
@pytest.mark.parametrize("stage", STAGES)
def test_what_is_shown_is_what_the_batches_of_a_stage_hold(
    stage: str, options: str, data: Path, converted: Callable[[Path], Path], tmp_path: Path
) -> None:
    model = str(converted(EMBEDDED))
    flags = ["--data", str(data), "--images", str(IMAGES), "--model", model, "--leave-out", *options.split()]
    assert_same(stage, flags, tmp_path)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_gives_look_the_same_values_as_its_command(
    recipe: str, data: Path, converted: Callable[[Path], Path], tmp_path: Path
) -> None:
    stage, name = recipe.split(":")
    name = str(data / name) if name.endswith(".toml") else name
    flags = ["--data", str(data), "--images", str(IMAGES), "--model", str(converted(EMBEDDED)), "--leave-out"]
    assert_same(stage, [*flags, "--recipe", name], tmp_path, say_stage=False)


@pytest.mark.parametrize("case", ["plain", "class token kept", "two layers, class token kept"])
def test_images_of_every_model_have_the_rows_of_training(
    case: str, data: Path, converted: Callable[[Path], Path], tmp_path: Path
) -> None:
    write_checkpoint(CASES[case], tmp_path / "released")
    model = str(converted(tmp_path / "released"))
    assert_same("lora", ["--data", str(data), "--images", str(IMAGES), "--model", model, "--leave-out"], tmp_path)


def test_look_refuses_what_training_refuses_and_says_what_is_left_out(
    data: Path, converted: Callable[[Path], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    options = LookOptions(data=data, images=IMAGES, model=str(converted(EMBEDDED)), workers=0, max_tokens=140)
    with pytest.raises(RecordError, match=r"2 bad records|record 7, line 7: has video"):
        look(options)
    look(replace(options, leave_out=True, first=7 - 2, batch_size=1))
    out, err = capfd.readouterr()
    assert "left out: record" in err
    assert "record 7, line 7: has video" in err
    assert out.startswith("1 record, ")


def test_a_recipe_of_another_stage_is_refused(data: Path) -> None:
    words = ["--data", str(data), "--stage", "lora", "--recipe", "tiny_pretrain"]
    with pytest.raises(UsageError, match="not a recipe for lora"):
        parse(LookOptions, "look", words, stage_defaults)


def test_a_damaged_image_is_an_error_or_left_out(
    data: Path, converted: Callable[[Path], Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.png").write_bytes((IMAGES / "one_shape.png").read_bytes()[:500])
    rows = [{"image": name, "conversations": turns("<image>", name)} for name in ("cut.png", "whole.png")]
    (tmp_path / "whole.png").write_bytes((IMAGES / "one_shape.png").read_bytes())
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    model = str(converted(EMBEDDED))
    options = LookOptions(data=tmp_path / "rows.json", images=tmp_path, model=model, workers=0)
    with pytest.raises(ImageError, match=r"record 1, line 1: .*cut\.png"):
        look(options)
    look(replace(options, leave_out=True))
    out, err = capfd.readouterr()
    assert "whole.png" in out
    assert "cut.png" not in out
    assert "left out: " in err
