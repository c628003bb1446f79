"""Recipes: TOML files that give the defaults of a program's flags."""

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from mlx_llava.errors import UsageError
from mlx_llava.program.limits import check_limits
from mlx_llava.program.options import parse
from mlx_llava.program.recipe import RECIPES
from mlx_llava.prompts.templates import TEMPLATES
from mlx_llava.training.options import FinetuneOptions, LoraOptions, PretrainOptions, TrainingOptions

PROGRAMS: dict[str, type[TrainingOptions]] = {
    "finetune": FinetuneOptions,
    "lora": LoraOptions,
    "pretrain": PretrainOptions,
}
NEEDED = ["--data", "train.json", "--adapter-path", "out"]


def command(recipe: Path) -> list[str]:
    """The command that a recipe opens with."""
    lines = recipe.read_text().split("\n#\n")[0].splitlines()
    return shlex.split(" ".join(line.removeprefix("#").removesuffix("\\") for line in lines))


def error_of(text: str, folder: Path) -> UsageError:
    """The error for a recipe with this text."""
    (folder / "own.toml").write_text(text)
    with pytest.raises(UsageError) as caught:
        check_limits(parse(LoraOptions, "lora", [*NEEDED, "--recipe", str(folder / "own.toml")]))
    return caught.value


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.toml")), ids=lambda recipe: recipe.stem)
def test_the_command_that_a_recipe_opens_with_gets_all_its_values(recipe: Path) -> None:
    start, program, *arguments = command(recipe)
    assert start == "mlx-llava"
    options = parse(PROGRAMS[program], program, arguments)
    check_limits(options)
    assert options.recipe == recipe.stem
    expected = tomllib.loads(recipe.read_text())
    assert expected.pop("program") == program
    assert {name: getattr(options, name) for name in expected} == expected
    assert options.template is None or options.template in TEMPLATES


def test_a_recipe_is_there_for_every_run_of_the_papers_and_of_the_small_model() -> None:
    assert {recipe.stem for recipe in RECIPES.glob("*.toml")} == {
        *("v1_7b_pretrain", "v1_7b_instruct", "scienceqa"),
        *(f"v1_5_{size}_{stage}" for size in ("7b", "13b") for stage in ("pretrain", "finetune", "lora")),
        *("tiny_pretrain", "tiny_finetune", "tiny_lora", "tiny_text"),
    }


def test_flags_override_a_recipe_and_a_recipe_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('rank = 8\nalpha = 16\nfreeze_projector = true\nimages = "photos"\n')
    arguments = [*NEEDED, f"--recipe={tmp_path / 'own.toml'}", "--rank", "4", "--no-freeze-projector"]
    options = parse(LoraOptions, "lora", arguments)
    assert (options.rank, options.alpha, options.freeze_projector) == (4, 16.0, False)
    assert options.images == Path("photos")
    assert options.dropout == LoraOptions.dropout


def test_what_a_recipe_gives_need_not_be_given_again(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text('data = "train.json"\n')
    options = parse(LoraOptions, "lora", ["--recipe", str(tmp_path / "own.toml"), "--adapter-path", "out"])
    assert options.data == Path("train.json")
    with pytest.raises(UsageError, match="--adapter-path"):
        parse(LoraOptions, "lora", ["--recipe", str(tmp_path / "own.toml")])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lora_rank = 8", "lora_rank is not a key"),
        ('recipe = "tiny_lora"', "recipe is not a key"),
        ("[lora]\nrank = 8", "lora is not a key"),
        ('rank = "8"', "rank = '8' is of the wrong type"),
        ("rank = true", "rank = True is of the wrong type"),
        ("rank = 8.0", "rank = 8.0 is of the wrong type"),
        ("leave_out = 1", "leave_out = 1 is of the wrong type"),
        ("learning_rate = [1e-4]", "of the wrong type"),
        ('fit = "stretch"', "fit = 'stretch' is of the wrong type"),
        ("rank = ", "Invalid value"),
        ("rank = 0", "--rank 0 is out of range"),
        ("learning_rate = nan", "--learning-rate nan is out of range"),
    ],
)
def test_a_recipe_with_a_fault_stops_the_program(text: str, words: str, tmp_path: Path) -> None:
    error = error_of(text, tmp_path)
    assert words in error.problem
    assert error.advice


@pytest.mark.parametrize("recipe", ["tiny_finetune", "v1_5_7b_pretrain"])
def test_the_recipe_of_another_program_is_refused_though_its_keys_fit(recipe: str) -> None:
    with pytest.raises(UsageError, match="not a recipe for lora"):
        parse(LoraOptions, "mlx-llava lora", [*NEEDED, "--recipe", recipe])


def test_a_switch_that_a_recipe_sets_can_be_given_either_way() -> None:
    arguments = [*NEEDED, "--recipe", "v1_5_7b_lora"]
    assert parse(LoraOptions, "lora", [*arguments, "--leave-out"]).leave_out
    assert not parse(LoraOptions, "lora", [*arguments, "--no-leave-out"]).leave_out


# LLaVA's scripts, 8 devices each: conversations in a step, peak rate, epochs, fit of pictures
# (scripts/pretrain.sh, finetune_full_schedule.sh with the paper's batch, finetune_sqa.sh, v1_5/*.sh)
PAPERS = {
    "v1_7b_pretrain": (128, 2e-3, 1, "crop"),
    "v1_7b_instruct": (32, 2e-5, 3, "crop"),
    "scienceqa": (128, 2e-5, 12, "crop"),
    **{f"v1_5_{size}_pretrain": (256, 1e-3, 1, "crop") for size in ("7b", "13b")},
    **{f"v1_5_{size}_finetune": (128, 2e-5, 1, "pad") for size in ("7b", "13b")},
    **{f"v1_5_{size}_lora": (128, 2e-4, 1, "pad") for size in ("7b", "13b")},
}


@pytest.mark.parametrize("name", PAPERS)
def test_a_recipe_has_the_numbers_of_its_paper(name: str) -> None:
    values = tomllib.loads((RECIPES / f"{name}.toml").read_text())
    step = values["batch_size"] * values["accumulation"]
    assert (step, values["learning_rate"], values["epochs"], values["fit"]) == PAPERS[name]
    assert (values["warmup_ratio"], values["weight_decay"]) == (0.03, 0.0)
    if name.endswith("lora"):
        assert (values["rank"], values["alpha"], values["dropout"], values["mm_projector_lr"]) == (128, 256, 0.05, 2e-5)


def test_a_missing_recipe_is_reported_in_two_lines() -> None:
    words = ["-m", "mlx_llava.lora", "--recipe", "v2"]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    problem, advice = done.stderr.splitlines()
    assert "--recipe v2: no such recipe" in problem
    assert "v1_5_7b_lora" in advice


def test_help_shows_the_defaults_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    def helped(*arguments: str) -> list[str]:
        with pytest.raises(SystemExit):
            parse(LoraOptions, "lora", [*arguments, "--help"])
        text = " ".join(capsys.readouterr().out.split())
        return [part.split(")")[0] for part in text.split("(default: ")[1:]]

    assert "128" in helped()
    assert "16" in helped("--recipe", "tiny_lora")
    assert "None" not in helped()
