"""Settings are chosen by name, refuse nonsense with advice, and outlive runs, versions and damage."""

import dataclasses
import json
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.inference.sampling import Sampling
from mlx_llava.tui.session.settings import ABOUT, NAMES, Settings, accepts, setting_name
from mlx_llava.tui.session.settings_file import FILE, read_settings, write_settings


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("temperature", "0.7", "temperature", 0.7),
        ("temp", " 1 ", "temperature", 1),
        ("top-p", ".9", "top_p", 0.9),
        ("MAX_TOKENS", "1024", "max_tokens", 1024),
        ("seed", "7", "seed", 7),
        ("seed", "random", "seed", None),
        ("system", "Be brief.\nBe kind.", "system", "Be brief.\nBe kind."),
        ("system-prompt", "none", "system", ""),
        ("system", "default", "system", None),
        ("template", "vicuna_v1", "template", "vicuna_v1"),
        ("fit", "PAD", "fit", "pad"),
        ("pictures", "on", "images", "auto"),
        ("images", "off", "images", "off"),
        ("incognito", "on", "incognito", True),
        ("theme", "nord", "theme", "nord"),
        ("model", "default", "model", None),
    ],
)
def test_a_setting_is_changed_as_it_is_typed(name: str, text: str, field: str, value: object) -> None:
    changed = dataclasses.replace(Settings(), seed=3, system="x", model="y").set(name, text)
    assert getattr(changed, field) == value
    assert changed == changed.set(field, changed.spelled(field))


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("temperature", "101", "must be a number from 0 to 100"),
        ("temperature", "warm", "must be a number"),
        ("temperature", "nan", "must be a number"),
        ("top_p", "0", "from 1e-06 to 1"),
        ("max_tokens", "1.5", "whole number from 1"),
        ("max_tokens", "0", "whole number from 1"),
        ("seed", "-1", "from 0"),
        ("template", "vicuna", "one of chatml_direct"),
        ("template", "plain", "one of"),  # for captions, not for chats
        ("fit", "stretch", "one of crop, pad"),
        ("incognito", "maybe", "on or off"),
        ("theme", "", "the name of a theme"),
        ("theme", "a\x1b[2J", "␛"),
    ],
)
def test_nonsense_is_refused_with_what_it_may_be(name: str, text: str, problem: str) -> None:
    with pytest.raises(UsageError) as raised:
        Settings().set(name, text)
    assert problem in raised.value.problem
    assert "\n" not in raised.value.problem
    assert raised.value.advice == f"/set {name} default restores the default."


def test_a_wrong_name_gets_a_near_one() -> None:
    with pytest.raises(UsageError, match="no setting temprature") as raised:
        Settings().set("temprature", "1")
    assert raised.value.advice == "Did you mean temperature?"
    with pytest.raises(UsageError) as raised:
        setting_name("xyzzy")
    assert "theme" in raised.value.advice


@given(st.sampled_from(NAMES), st.text())
def test_whatever_is_typed_is_a_setting_or_a_usage_error(name: str, text: str) -> None:
    try:
        changed = Settings().set(name, text)
    except UsageError:
        return
    assert accepts(name, getattr(changed, name))
    json.dumps(dataclasses.asdict(changed))


def test_every_setting_is_described_and_its_default_is_one_of_its_values() -> None:
    for name in NAMES:
        assert ABOUT[name].endswith(".")
        assert accepts(name, getattr(Settings(), name))
    answer = Settings(system="a", template="plain", fit="pad", decoding="training", alternatives=True).for_answer()
    assert (answer.system, answer.template, answer.fit, answer.decoding) == ("a", "plain", "pad", "training")
    assert answer.num_top > 0
    chosen = Settings(temperature=0.5, top_p=0.9, top_k=7, min_p=0.1, penalty=1.2, max_tokens=9, seed=3)
    assert chosen.for_answer().sampling == Sampling(9, 0.5, 0.9, 7, 0.1, 1.2, 3)


def test_settings_outlive_a_run(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    assert read_settings(folder) == read_settings(tmp_path)
    chosen = Settings().set("temperature", "0.5").set("system", "Ünï\n").set("incognito", "on")
    write_settings(folder, chosen, Settings())
    assert read_settings(folder) == (chosen, [])
    assert json.loads((folder / FILE).read_text()).keys() == {"temperature", "system", "incognito"}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600


def test_what_is_not_known_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"mood": {"a": [1]}, "seed": "x", "top_p": 0.5, "theme": "no\\u001b[2J"}')
    settings, notices = read_settings(tmp_path)
    assert settings == Settings(top_p=0.5)
    assert len(notices) == 3
    assert any("mood" in notice and "is unknown" in notice for notice in notices)
    assert any("seed" in notice and 'cannot be "x"' in notice for notice in notices)
    assert not any("\x1b" in notice for notice in notices)
    write_settings(tmp_path, Settings(top_p=0.5, max_tokens=9), settings)
    values = json.loads((tmp_path / FILE).read_text())
    assert (values["mood"], values["seed"], values["top_p"], values["max_tokens"]) == ({"a": [1]}, "x", 0.5, 9)


@pytest.mark.parametrize("damage", [b"{", b"[1]", b"\xff\xfe", b"", b"[" * 100_000])
def test_a_damaged_file_is_moved_aside(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    settings, notices = read_settings(tmp_path)
    (aside,) = tmp_path.glob("settings.damaged-*")
    assert (settings, aside.read_bytes()) == (Settings(), damage)
    assert str(aside) in notices[0]
    assert read_settings(tmp_path) == (Settings(), [])


def test_two_windows_do_not_undo_each_other(tmp_path: Path) -> None:
    def choose(name: str, text: str) -> None:
        write_settings(tmp_path, Settings().set(name, text), Settings())

    chosen = [("temperature", "0.5"), ("seed", "4"), ("theme", "nord"), ("fit", "pad"), ("max_tokens", "9")]
    windows = [threading.Thread(target=choose, args=choice) for choice in chosen]
    for window in windows:
        window.start()
    for window in windows:
        window.join()
    settings, _ = read_settings(tmp_path)
    assert settings == Settings(temperature=0.5, seed=4, theme="nord", fit="pad", max_tokens=9)


def test_a_folder_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    _, notices = read_settings(tmp_path / "file")
    assert "cannot be read" in notices[0]
    with pytest.raises(LlavaError) as raised:
        write_settings(tmp_path / "file", Settings(seed=1), Settings())
    assert "apply to this run" in raised.value.advice
