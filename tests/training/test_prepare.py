"""Stage 1 and stage 2 in full: what they train, what they write, and how they go on. (`lora`: training/test_run.)"""

import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lessons import values
from spine import CASES, EMBEDDED, write_checkpoint

from mlx_llava.ask import AskOptions, ask
from mlx_llava.checkpoint.folder import load
from mlx_llava.checkpoint.reader import Reader, read_index
from mlx_llava.convert import job
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.errors import CheckpointError, ConversionError, UsageError
from mlx_llava.finetune import finetune
from mlx_llava.lora import lora
from mlx_llava.models.projector import reinitialize
from mlx_llava.pretrain import pretrain
from mlx_llava.training import prepare
from mlx_llava.training.options import FinetuneOptions, LoraOptions, PretrainOptions

EXAMPLES = EMBEDDED / "examples"
SHORT = {"epochs": 2, "batch_size": 2, "accumulation": 1, "learning_rate": 1e-3, "save_every": 1, "workers": 0}


def row(answer: str, image: str | None) -> dict[str, Any]:
    turns = [{"from": "human", "value": "What?" + "\n<image>" * bool(image)}, {"from": "gpt", "value": answer}]
    return {"id": answer, **({"image": image} if image else {}), "conversations": turns}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four captions, and two questions without a picture."""
    folder = tmp_path_factory.mktemp("data")
    visual = [row("blue " * n + "circle", f"{name}.png") for n in (1, 2) for name in ("one_shape", "three_shapes")]
    text = [row(answer, None) for answer in ("a number", "a letter")]
    for name, rows in (("shown", visual), ("text", text), ("mixed", visual + text)):
        (folder / f"{name}.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def stage1(data: Path, converted: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> PretrainOptions:
    """A short first stage that has run to its end."""
    options = PretrainOptions(
        data=data / "shown.json",
        images=EXAMPLES,
        model=str(converted(EMBEDDED)),
        adapter_path=tmp_path_factory.mktemp("stage1") / "projector",
        new_projector=True,
        **SHORT,
    )
    assert pretrain(options) == 0
    return options


@pytest.fixture(scope="module")
def stage2(stage1: PretrainOptions, data: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneOptions:
    """A short second stage that has run to its end."""
    options = FinetuneOptions(
        data=data / "mixed.json",
        images=EXAMPLES,
        model=stage1.model,
        projector=stage1.adapter_path,
        mlx_path=tmp_path_factory.mktemp("stage2") / "model",
        template="v1_mmtag",
        **SHORT,
    )
    assert finetune(options) == 0
    return options


def files(folder: Path) -> dict[str, bytes]:
    """What a result holds, snapshots and their like left out."""
    kinds = (".safetensors", ".json")
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix in kinds}


def stored(folder: Path) -> dict[str, tuple[str, bytes]]:
    """Dtype and bytes of every tensor of a converted folder."""
    with Reader() as reader:
        return {n: (t.dtype, reader.rows(t, 0, t.num_rows).tobytes()) for n, t in read_index(folder).items()}


def parts(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ctrl-C while the line of that step is printed."""
    monkeypatch.setattr(prepare, "log", lambda line: line.startswith(f"{step}/") and signal.raise_signal(signal.SIGINT))


def test_stage_1_updates_the_projector_and_nothing_else(
    stage1: PretrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load(Path(str(stage1.model)))
    before = values(checkpoint.model)
    monkeypatch.setattr("mlx_llava.resolve.load", lambda folder: checkpoint)
    assert pretrain(replace(stage1, adapter_path=tmp_path, new_projector=False)) == 0
    after = values(checkpoint.model)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == {name for name in before if name.startswith("projector.")}


def test_stage_1_sees_the_center_of_an_image_and_its_caption(
    stage1: PretrainOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = load(Path(str(stage1.model)))
    padding = replace(checkpoint.config, image=replace(checkpoint.config.image, fit="pad"))
    monkeypatch.setattr("mlx_llava.resolve.load", lambda folder: replace(checkpoint, config=padding))
    examples = prepare.load_examples(stage1, prepare.load_base(stage1).checkpoint, "train")
    assert examples.builder.image.fit == "crop"
    first = examples.builder.example(examples.dataset[0])
    assert checkpoint.tokenizer.decode(first.tokens[first.label_mask].tolist()) == "blue circle\n"


def test_a_new_projector_is_initialized_as_torch_does(stage1: PretrainOptions) -> None:
    projector = load(Path(str(stage1.model))).model.projector

    def new_projector(seed: int) -> dict[str, Any]:
        reinitialize(projector, seed)
        return values(projector)

    one, same, other = new_projector(1), new_projector(1), new_projector(2)
    for name, value in one.items():
        bound = one[name.replace("bias", "weight")].shape[1] ** -0.5
        assert np.array_equal(value, same[name])
        assert not np.array_equal(value, other[name])
        assert 0.8 * bound < np.abs(value).max() <= bound


def test_an_interrupted_stage_1_resumes_to_the_same_bits(
    stage1: PretrainOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(stage1, adapter_path=tmp_path)
    with monkeypatch.context() as patch:
        stop_after(patch, 1)
        assert pretrain(options) == 130
    assert files(tmp_path).keys() == files(stage1.adapter_path).keys()
    assert pretrain(options) == 0
    assert files(tmp_path) == files(stage1.adapter_path)


def test_an_interrupted_stage_2_resumes_to_the_same_bits(
    stage2: FinetuneOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = replace(stage2, mlx_path=tmp_path / "model")
    for step in (1, 4):  # in the first epoch, and in the second
        with monkeypatch.context() as patch:
            stop_after(patch, step)
            assert finetune(options) == 130
        assert not options.mlx_path.exists()
    assert finetune(options) == 0
    assert files(options.mlx_path) == files(stage2.mlx_path)


def test_stage_2_updates_the_language_model_and_the_projector_and_never_the_tower(stage2: FinetuneOptions) -> None:
    before, after = stored(Path(str(stage2.model))), stored(stage2.mlx_path)
    assert before.keys() == after.keys()
    moved = {name for name in before if before[name] != after[name]}
    assert moved == {name for name in before if not name.startswith("vision_tower.")}


def test_the_model_of_stage_2_answers_and_keeps_its_template(
    stage2: FinetuneOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (str(EXAMPLES / "one_shape.png"), "What?")
    assert ask(AskOptions(words=words, model=str(stage2.mlx_path), max_tokens=3)) == 0
    assert capsys.readouterr().out.strip()
    assert load(stage2.mlx_path).config.template == "v1_mmtag"


def test_text_alone_trains_only_the_language_model(stage2: FinetuneOptions, data: Path, tmp_path: Path) -> None:
    options = replace(stage2, data=data / "text.json", images=None, projector=None, mlx_path=tmp_path / "model")
    assert finetune(options) == 0
    before, after = stored(Path(str(stage2.model))), stored(options.mlx_path)
    assert parts({name for name in before if before[name] != after[name]}) == {"language_model"}


def test_weights_are_written_in_the_dtype_of_the_base_or_in_another(
    stage2: FinetuneOptions, data: Path, tmp_path: Path
) -> None:
    half = ConvertOptions(hf_path=str(EMBEDDED), mlx_path=tmp_path / "half", dtype="bfloat16")
    job.write(job.prepare(half))
    options = replace(stage2, data=data / "text.json", model=str(half.mlx_path), projector=None, epochs=2)
    for dtype, spelled in ((None, {"BF16"}), ("float32", {"BF16", "F32"})):
        assert finetune(replace(options, mlx_path=tmp_path / str(dtype), dtype=dtype)) == 0
        after = stored(tmp_path / str(dtype))
        assert {dtype for dtype, _ in after.values()} == spelled
        tower = {name: tensor for name, tensor in stored(half.mlx_path).items() if name.startswith("vision_tower.")}
        assert tower == {name: after[name] for name in tower}
        load(tmp_path / str(dtype))


def test_an_existing_folder_is_reported_before_the_first_step(stage2: FinetuneOptions, tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="already exists"):
        finetune(replace(stage2, run_path=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    assert finetune(replace(stage2, overwrite=True)) == 0  # nothing left to do but to write it again


def test_a_projector_comes_into_lora_and_leaves_with_its_adapters(stage1: PretrainOptions, tmp_path: Path) -> None:
    options = LoraOptions(
        data=stage1.data,
        images=EXAMPLES,
        model=stage1.model,
        projector=stage1.adapter_path,
        adapter_path=tmp_path / "out",
        freeze_projector=True,
        **{**SHORT, "epochs": 1},
    )
    assert lora(options) == 0
    name = "projector.safetensors"
    assert files(tmp_path / "out")[name] == files(stage1.adapter_path)[name]


def test_ask_takes_the_projector_of_stage_1(stage1: PretrainOptions, capsys: pytest.CaptureFixture[str]) -> None:
    def answer(adapter_path: Path | None) -> str:
        words = (str(EXAMPLES / "one_shape.png"), "What color is the circle?")
        options = AskOptions(words=words, model=stage1.model, adapter_path=adapter_path, json=True, logprobs=True)
        assert ask(options) == 0
        return capsys.readouterr().out.split('"seconds')[0]

    assert answer(stage1.adapter_path) != answer(None)


def test_a_projector_of_another_base_is_refused(
    stage1: PretrainOptions, stage2: FinetuneOptions, converted: Callable[[Path], Path], tmp_path: Path
) -> None:
    write_checkpoint(CASES["plain"], tmp_path / "released")
    other = str(converted(tmp_path / "released"))
    with pytest.raises(CheckpointError, match="belong to another model"):
        finetune(replace(stage2, model=other, mlx_path=tmp_path / "model"))
    with pytest.raises(CheckpointError, match="belong to another model"):
        ask(AskOptions(words=("Hi",), model=other, adapter_path=stage1.adapter_path))


def test_a_projector_cannot_be_both_new_and_given(stage1: PretrainOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        pretrain(replace(stage1, projector=stage1.adapter_path, adapter_path=tmp_path))


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        (None, "mlx-llava ask --adapter-path 'my adapters'"),
        ("owner/llava", "mlx-llava ask --model owner/llava --adapter-path 'my adapters'"),
    ],
)
def test_the_next_command_names_the_model_as_it_was_given(model: str | None, shown: str) -> None:
    assert prepare.command("ask", model, "--adapter-path", Path("my adapters")) == shown
