"""`mlx-llava models`: what is on this machine, and names that --model takes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from checkpoints import CONFIG
from hub_server import COMMIT, serving
from spine import EMBEDDED

from mlx_llava.catalog import pulled, uses
from mlx_llava.catalog.offers import OFFERS
from mlx_llava.catalog.pulled import models_folder, place
from mlx_llava.convert.options import QuantizeOptions
from mlx_llava.errors import LlavaError, ModelError, UsageError
from mlx_llava.library import models, name_of
from mlx_llava.resolve import folder_of, open_model

FILES = {file.name: file.read_bytes() for file in EMBEDDED.iterdir() if file.suffix in (".json", ".safetensors")}
SMALL = ["-q", "--q-group-size", "32"]
GONE = "http://127.0.0.1:9"  # the discard port: nothing listens


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, and an empty cache of the hub, which is returned."""
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def tiny(capsys: pytest.CaptureFixture[str]) -> Path:
    """A pulled model called `tiny`."""
    models(["pull", str(EMBEDDED), *SMALL, "--name", "tiny"])
    assert capsys.readouterr().out == "tiny\n"
    return models_folder() / "tiny"


def listed(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, object]]:
    """The models of `mlx-llava models --json` by name, without the bundled one."""
    capsys.readouterr()
    models(["--json"])
    found = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert found.pop("embedded")["kind"] == "bundled"
    return found


def snapshot(cache: Path, name: str, files: Mapping[str, bytes], kind: str = "models") -> Path:
    """A repository in the hub's cache."""
    repository = cache / f"{kind}--{name.replace('/', '--')}"
    folder = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    folder.mkdir(parents=True)
    for number, (path, body) in enumerate(files.items()):
        (repository / "blobs" / str(number)).write_bytes(body)
        (folder / path).symlink_to(repository / "blobs" / str(number))
    return folder


def test_a_repository_is_pulled_listed_and_used_by_its_name(tmp_path: Path) -> None:
    home = {"MLX_LLAVA_HOME": str(tmp_path / "home"), "HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "0"}

    def run(address: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "mlx_llava", *arguments]
        environment = {**os.environ, **home, "HF_ENDPOINT": address}
        return subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)

    pull = ["models", "pull", "owner/tiny-hf", *SMALL]
    with serving({"owner/tiny-hf": {**FILES, "model.safetensors": None}}) as address:
        failed = run(address, *pull)
    assert (failed.returncode, failed.stdout) == (7, "")
    assert "the same command resumes the download" in failed.stderr
    assert json.loads(run(GONE, "models", "--json").stdout)[1:] == []  # nothing half there

    with serving({"owner/tiny-hf": FILES}) as address:
        done = run(address, *pull)
    assert (done.returncode, done.stdout) == (0, "tiny-4bit\n"), done.stderr
    assert "hf cache rm model/owner/tiny-hf" in done.stderr
    again = run(GONE, *pull)
    assert (again.returncode, again.stdout) == (0, "tiny-4bit\n")
    assert "already there: tiny-4bit, 4.0 MB, 4 bits" in again.stderr

    _, model, download = json.loads(run(GONE, "models", "--json").stdout)
    kinds = [
        (model["name"], model["kind"], model["source"], model["weights"], model["converted"]) for model in (model,)
    ]
    assert kinds == [("tiny-4bit", "pulled", "owner/tiny-hf", "4 bits", True)]
    assert (download["name"], download["kind"], download["converted"]) == ("owner/tiny-hf", "download", False)
    answer = run(GONE, "ask", "--model", "tiny-4bit", str(EMBEDDED / "examples" / "one_shape.png"), "What color is it?")
    assert answer.returncode == 0
    assert answer.stdout.startswith("The ")
    refused = run(GONE, "ask", "--model", "owner/tiny-hf", "Hi")
    assert refused.returncode == 3
    assert refused.stderr.endswith("mlx-llava models pull owner/tiny-hf -q\n")


@pytest.mark.parametrize(
    ("source", "options", "name"),
    [
        ("llava-hf/llava-1.5-7b-hf", QuantizeOptions(quantize=True), "llava-1.5-7b-4bit"),
        ("llava-hf/llava-1.5-7b-hf", QuantizeOptions(), "llava-1.5-7b"),
        ("liuhaotian/llava-v1.5-7b", QuantizeOptions(quantize=True, q_bits=8), "llava-v1.5-7b-8bit"),
        ("owner/a", QuantizeOptions(quantize=True, q_mode="mxfp4"), "a-mxfp4"),
        ("owner/a", QuantizeOptions(quantize=True, q_recipe="mixed_3_4"), "a-mixed-3-4"),
        ("folder/b/", QuantizeOptions(), "b"),
    ],
)
def test_the_name_says_what_it_is(source: str, options: QuantizeOptions, name: str) -> None:
    assert name_of(source, options) == name


def test_the_chat_puts_its_offers_where_pull_does() -> None:
    for offer in OFFERS:
        assert offer.folder == models_folder() / name_of(offer.repository, QuantizeOptions(quantize=True))


def test_folders_that_convert_wrote_are_listed_while_they_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from mlx_llava.convert.cli import convert
    from mlx_llava.convert.options import ConvertOptions

    mine = tmp_path / "mine"
    convert(ConvertOptions(hf_path=str(EMBEDDED), mlx_path=mine))
    found = listed(capsys)
    assert [*found] == [str(mine)]
    assert (found[str(mine)]["kind"], found[str(mine)]["weights"]) == ("folder", "float16")
    assert found[str(mine)]["bytes"] == sum(file.stat().st_size for file in mine.iterdir())
    with pytest.raises(ModelError, match="your own folder"):
        models(["remove", str(mine), "--yes"])
    shutil.rmtree(mine)
    assert listed(capsys) == {}


def test_of_the_cache_only_llavas_with_weights_are_listed(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, weights = json.dumps(CONFIG).encode(), FILES["model.safetensors"]
    converted = json.dumps({**CONFIG, "mlx_llava": {"source": {"name": "other/base"}}}).encode()
    snapshot(cache, "owner/llava", {"config.json": config, "model.safetensors": weights})
    snapshot(cache, "owner/pickles", {"config.json": config, "pytorch_model.bin": b"pickle"})
    snapshot(cache, "owner/converted", {"config.json": converted, "model.safetensors": weights})
    snapshot(cache, "owner/looked-at", {"config.json": config})
    snapshot(cache, "owner/bert", {"config.json": b'{"model_type": "bert"}', "model.safetensors": weights})
    snapshot(cache, "owner/broken", {"config.json": b"[", "model.safetensors": weights})
    snapshot(cache, "owner/data", {"config.json": config, "model.safetensors": weights}, "datasets")
    (cache / "models--not-a-repository").write_bytes(b"")
    found = listed(capsys)
    assert {name: (model["converted"], model["weights"]) for name, model in found.items()} == {
        "owner/converted": (True, "float16"),
        "owner/llava": (False, "float16"),
        "owner/pickles": (False, ""),
    }
    assert found["owner/converted"]["source"] == "other/base"
    with pytest.raises(ModelError, match="hf cache rm model/owner/llava"):
        models(["remove", "owner/llava", "--yes"])


def test_opening_a_model_is_its_last_use(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for use in (lambda: open_model("tiny"), lambda: folder_of("tiny")):
        shutil.rmtree(uses._notes())
        assert listed(capsys)["tiny"]["last_used"] is None
        use()
        assert str(listed(capsys)["tiny"]["last_used"]).startswith("20")


def test_a_use_that_cannot_be_noted_is_no_error(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", "/dev/null/home")
    assert folder_of(str(tiny)) == tiny
    assert uses.last_uses() == {}


def test_a_folder_comes_before_a_pulled_model_and_that_is_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert place("tiny") == str(tiny)
    assert capsys.readouterr().err == ""
    shutil.copytree(tiny, "tiny")
    assert place("tiny") == "tiny"
    assert str(tiny) in capsys.readouterr().err


def test_the_bundled_model_has_a_name() -> None:
    assert folder_of("embedded") == folder_of(None)


def test_only_pulled_models_are_removed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, words in {
        "embedded": "part of this program",
        "nothing": "no pulled model",
        "../models/tiny": "no",
    }.items():
        with pytest.raises(ModelError, match=words):
            models(["remove", "tiny", name, "--yes"])
    with pytest.raises(UsageError, match="Add --yes"):
        models(["remove", "tiny"])
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda: "n")
    models(["remove", "tiny"])
    assert tiny.is_dir()
    monkeypatch.setattr("builtins.input", lambda: "y")
    models(["remove", "tiny"])
    assert capsys.readouterr().out == "removed tiny: 4.0 MB freed\n"
    assert [path.name for path in models_folder().iterdir()] == [".lock"]


def test_a_model_that_is_named_twice_is_removed_once(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models(["remove", "tiny", "tiny", "--yes"])
    assert capsys.readouterr().out.count("removed tiny") == 1
    assert not tiny.exists()


def test_of_a_linked_model_only_the_link_is_removed(tiny: Path, tmp_path: Path) -> None:
    tiny.rename(tmp_path / "elsewhere")
    tiny.symlink_to(tmp_path / "elsewhere")
    models(["remove", "tiny", "--yes"])
    assert not tiny.is_symlink()
    assert (tmp_path / "elsewhere" / "model.safetensors").exists()


def test_what_a_killed_pull_left_is_no_model_and_goes_with_the_next_one(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = tiny.rename(tiny.with_name(".tiny-0123abcd"))
    assert listed(capsys) == {}
    models(["pull", str(EMBEDDED), *SMALL, "--name", "tiny"])
    assert [*listed(capsys)] == ["tiny"]
    assert not left.exists()


@pytest.fixture
def locked() -> Iterator[None]:
    with pulled.sole_writer():
        yield


@pytest.mark.usefixtures("locked")
def test_two_processes_do_not_pull_at_once() -> None:
    with pytest.raises(LlavaError, match="another process"):
        models(["pull", str(EMBEDDED)])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pull"], "takes one repository, not 0"),
        (["pull", "a/b", "c/d"], "takes one repository, not 2"),
        (["pull", "a/b", "--name", "../x"], "../x: not possible as the name"),
        (["pull", "a/b", "--name", "embedded"], "embedded: not possible as the name"),
        (["pull", "owner/embedded"], "embedded: not possible as the name"),
        (["pull", "a/b", "--name", ".x"], ".x: not possible as the name"),
        (["pull", "a/b", "--q-bits", "4"], "without -q"),
        (["remove"], "without a name"),
        (["rmeove", "x"], "Did you mean models remove"),
        (["list"], "Use models, models pull or models remove"),
    ],
)
def test_wrong_words_are_explained(arguments: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        models(arguments)


def test_another_model_of_the_same_name_is_kept(tiny: Path) -> None:
    with pytest.raises(ModelError, match="another model of this name"):
        models(["pull", "owner/other", "--name", "tiny"])
    assert (tiny / "config.json").exists()


def test_the_table_is_for_people(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models([])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "WEIGHTS", "LAST", "USED", "SOURCE"]
    assert lines[1].startswith("embedded  ")
    assert lines[2].split()[:5] == ["tiny", "4.0", "MB", "4", "bits"]
    models(["remove", "tiny", "--yes"])
    models([])
    assert "mlx-llava models pull llava-hf/llava-1.5-7b-hf -q" in capsys.readouterr().err


def test_the_bundled_model_answers_where_its_home_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "temporary").mkdir()
    home = {"MLX_LLAVA_HOME": str(tmp_path / "file" / "home"), "TMPDIR": str(tmp_path / "temporary")}
    command = [sys.executable, "-m", "mlx_llava", "ask", str(EMBEDDED / "examples" / "one_shape.png"), "What color?"]
    done = subprocess.run(command, env={**os.environ, **home}, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert [*(tmp_path / "temporary").iterdir()] == []
