"""Options of the command line beat the saved settings for one run, and are not saved by themselves."""

import dataclasses
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from spine import EMBEDDED

from mlx_llava.engine.messages import Ask, Exchange, ImageFile, Load
from mlx_llava.engine.worker import ModelWorker
from mlx_llava.errors import ImageError, UsageError
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.options import parse
from mlx_llava.tui.cli import SETTINGS, ChatOptions, chat, new_session, saved_options
from mlx_llava.tui.session.session import Session
from mlx_llava.tui.session.settings import Settings

GIVEN = {
    "--system": ("Be brief.", "system"),
    "--template": ("vicuna_v1", "template"),
    "--decoding": ("training", "decoding"),
    "--temp": ("0.5", "temperature"),
    "--top-p": ("0.9", "top_p"),
    "--top-k": ("7", "top_k"),
    "--min-p": ("0.1", "min_p"),
    "--repetition-penalty": ("1.2", "penalty"),
    "--max-tokens": ("9", "max_tokens"),
    "--seed": ("3", "seed"),
}
SAVED = Settings(temperature=0.7, top_p=0.8, system="Be kind.", seed=8, theme="nord")


@pytest.fixture(autouse=True)
def _at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_LLAVA_HOME", str(tmp_path))


def session(*words: str) -> Session:
    options = parse(ChatOptions, "mlx-llava chat", words, lambda words: saved_options(words, SAVED))
    return new_session(options, SAVED, ())


def test_without_options_the_saved_settings_hold() -> None:
    assert session().settings == SAVED


@pytest.mark.parametrize("flag", GIVEN)
def test_an_option_beats_its_saved_setting_and_no_other(flag: str) -> None:
    text, setting = GIVEN[flag]
    assert session(flag, text).settings == SAVED.set(setting, text)
    assert setting in SETTINGS.values()


def test_an_option_may_be_the_program_s_own_default() -> None:
    assert session("--temp", "0", "--system", "").settings == dataclasses.replace(SAVED, temperature=0, system="")


def test_only_what_is_set_in_the_chat_is_saved(tmp_path: Path) -> None:
    running = session("--temp", "0.5", "--top-k", "7", "--seed", "3")
    file = tmp_path / "config" / "settings.json"
    running.set("max_tokens", "20")
    assert json.loads(file.read_text()) == {"max_tokens": 20}
    running.set("temperature", "0.5")  # what the option says, but now it is meant to stay
    assert json.loads(file.read_text()) == {"max_tokens": 20, "temperature": 0.5}
    assert (running.settings.top_k, running.settings.seed) == (7, 3)


def test_all_of_them_reach_the_model(converted: Callable[[Path], Path]) -> None:
    settings = session(*(word for flag, (text, _) in GIVEN.items() for word in (flag, text))).settings.for_answer()
    assert settings.sampling == Sampling(9, 0.5, 0.9, 7, 0.1, 1.2, 3)
    assert (settings.system, settings.template, settings.decoding) == ("Be brief.", "vicuna_v1", "training")
    data = (EMBEDDED / "examples" / "one_shape.png").read_bytes()
    ask = Ask(1, (Exchange("What?", (ImageFile("a.png", "digest", data),)),), settings)
    load = Load(str(converted(EMBEDDED)))

    def answer() -> list[str]:
        worker = ModelWorker()
        for request in (load, ask):
            list(worker.handle(request, lambda: False))
        decodings = [key[1] for key in worker._images]
        worker.close()
        return decodings

    with ThreadPoolExecutor(1) as thread:  # closing gives back the MLX streams of its thread, which others need here
        assert thread.submit(answer).result() == ["training"]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--template", "nope"), UsageError),
        (("--temp", "1000"), UsageError),
        (("--revision", "x"), UsageError),
        (("--continue",), UsageError),
        (("--session", "99"), UsageError),
        (("--continue", "--session", "1"), UsageError),
        (("--image", "none.png"), ImageError),
        (("none.png", "-p", "What?"), ImageError),
        (("What is this?",), ImageError),
    ],
)
def test_a_wrong_start_is_an_error_before_a_model_is_loaded(words: tuple[str, ...], error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        chat(parse(ChatOptions, "mlx-llava chat", words), Settings())
    assert len(str(caught.value).splitlines()) == 2
