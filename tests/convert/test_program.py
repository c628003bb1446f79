"""`mlx-llava convert` as a user meets it: two lines for a mistake, the plan and progress on stderr."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from checkpoints import CONFIG, arrays, save

from mlx_llava.convert import cli
from mlx_llava.convert.options import ConvertOptions
from mlx_llava.convert.weights import plan
from mlx_llava.convert.weights.progress import Progress
from mlx_llava.program.options import parse

Run = Callable[..., str]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "source", arrays())


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Convert in this process: what stderr shows. There is nothing to say on stdout."""

    def call(*arguments: object) -> str:
        cli.convert(parse(ConvertOptions, "convert", list(map(str, arguments))))
        out, err = capsys.readouterr()
        assert not out
        return err

    return call


def start(*arguments: object, **environment: str) -> tuple[int, str]:
    """Start the program: its exit code and stderr."""
    done = subprocess.run(
        [sys.executable, "-m", "mlx_llava.convert", *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert not done.stdout
    return done.returncode, done.stderr


WRONG_FLAGS = {
    "nothing": [],
    "no --mlx-path": ["--hf-path", "SOURCE"],
    "unknown flag": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "--q-bit", "4"],
    "stray word": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "word"],
    "bits are a word": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "-q", "--q-bits", "four"],
    "bits that no mode has": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "-q", "--q-bits", "3000"],
    "unknown mode": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "-q", "--q-mode", "nf4"],
    "unknown recipe": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "-q", "--q-recipe", "mixed_1_2"],
    "unknown dtype": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "--dtype", "int8"],
    "unknown template": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "--template", "x"],
    "bits without -q": ["--hf-path", "SOURCE", "--mlx-path", "OUT", "--q-bits", "4"],
    "two ways to choose bits": [
        *("--hf-path", "SOURCE", "--mlx-path", "OUT", "-q"),
        *("--q-bits", "4", "--q-recipe", "mixed_2_6"),
    ],
}


@pytest.mark.parametrize("name", WRONG_FLAGS)
def test_a_wrong_flag_is_two_lines_and_exit_2(name: str, source: Path, tmp_path: Path) -> None:
    words = {"SOURCE": str(source), "OUT": str(tmp_path / "out")}
    code, err = start(*(words.get(word, word) for word in WRONG_FLAGS[name]))
    assert code == 2
    assert re.fullmatch(r"mlx-llava: error: [^\n]{5,200}\n[^\n]{5,200}\n", err), err
    assert not (tmp_path / "out").exists()


def test_what_is_wrong_with_a_checkpoint_is_two_lines_without_traceback(source: Path, tmp_path: Path) -> None:
    (source / "config.json").write_text(json.dumps({**CONFIG, "vision_feature_layer": -99}))
    code, err = start("--hf-path", source, "--mlx-path", tmp_path / "out")
    assert code == 1
    what, advice = err.splitlines()
    assert what == "mlx-llava: error: config.json: vision_feature_layer is -99"
    assert advice.startswith("It must be a whole number from -3 to 2")


def test_debug_shows_the_traceback_as_well(source: Path, tmp_path: Path) -> None:
    _, err = start("--hf-path", source / "nowhere", "--mlx-path", tmp_path / "out", MLX_LLAVA_DEBUG="1")
    assert err.startswith("Traceback (most recent call last)")
    assert err.splitlines()[-2].startswith("mlx-llava: error: ")


def test_a_folder_that_is_not_there_is_exit_3(tmp_path: Path) -> None:
    code, err = start("--hf-path", tmp_path / "nowhere", "--mlx-path", tmp_path / "out")
    assert (code, err.count("\n")) == (3, 2)


def test_the_plan_and_the_progress_go_to_stderr(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "ROWS_BYTES", 10_000)
    lines = run(
        *("--hf-path", source, "--mlx-path", tmp_path / "out", "-q", "--q-bits", 8, "--dtype", "bfloat16")
    ).splitlines()
    assert lines[0] == f"{source}: 64 tensors, 1.8 MB"
    assert re.fullmatch(r"0\.\d MB as bfloat16; 16 layers quantized: 8 bits affine, groups of 64", lines[1])
    assert lines[2] == "template vicuna_v1, images 8 pixels, crop"
    progress = [line for line in lines if "% " in line]
    assert 8 <= len(progress) <= 11
    assert all(re.fullmatch(r" *\d+%  \d+\.\d MB  \d+ MB/s  \d+ s left", line) for line in progress)
    assert progress[-1].startswith("100%")
    assert lines[-1] == f"written to {tmp_path}/out"


def test_a_dry_run_needs_headers_alone_and_writes_nothing(run: Run, source: Path, tmp_path: Path) -> None:
    damaged = arrays()
    damaged[min(damaged)][:] = float("nan")
    save(source, damaged)
    before = sorted(tmp_path.rglob("*"))
    err = run("--hf-path", source, "--mlx-path", tmp_path / "out", "-q", "--dry-run")
    assert "16 layers quantized: 4 bits affine, groups of 64\n" in err
    assert err.endswith("dry run: nothing written\n")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_template_that_was_asked_for_is_recorded(run: Run, source: Path, tmp_path: Path) -> None:
    err = run("--hf-path", source, "--mlx-path", tmp_path / "out", "--template", "llava_llama_2")
    assert "template llava_llama_2" in err
    assert json.loads((tmp_path / "out" / "config.json").read_text())["mlx_llava"]["template"] == "llava_llama_2"


def test_on_a_terminal_progress_is_one_line_and_an_error_starts_on_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def shown(terminal: str) -> str:
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        monkeypatch.setenv("TERM", terminal)
        with Progress() as progress:
            progress.printed = -1.0  # long ago
            progress(5 * 10**9, 10**10)
        return capsys.readouterr().err

    assert re.fullmatch(r"\r\x1b\[K 50%  5\.0 GB  \d+ MB/s  \d+ s left\n", shown("xterm"))
    assert re.fullmatch(r" 50%  5\.0 GB  \d+ MB/s  \d+ s left\n", shown("dumb"))


def test_the_flags_of_mlx_lm_convert_have_the_same_meaning() -> None:
    theirs = ["--model", "x", "--mlx-path", "y", "-q", "--q-group-size", "32", "--quant-predicate", "mixed_4_6"]
    parsed = parse(ConvertOptions, "convert", theirs)
    assert parsed == ConvertOptions(
        hf_path="x", mlx_path=Path("y"), quantize=True, q_group_size=32, q_recipe="mixed_4_6"
    )


def test_help_names_every_flag_and_does_not_wait_for_mlx() -> None:
    program = (
        "import sys; from mlx_llava.convert.cli import main\ntry: main()\nfinally: assert 'mlx' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", program, "--help"], check=True, capture_output=True, text=True)
    flags = {f"--{field.name.replace('_', '-')}" for field in fields(ConvertOptions)}
    assert flags <= set(re.findall(r"--[\w-]+", done.stdout))
