"""Choosing a picture from a folder."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from screen import ScriptedWorker, on_loop, running
from spine import EMBEDDED

from mlx_llava.tui.screens.files import as_written, entries

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"


def test_a_folder_is_no_picture_whatever_it_is_called(tmp_path: Path) -> None:
    folder, image = tmp_path / "folder.png", tmp_path / "a.PNG"
    folder.mkdir()
    image.touch()
    assert entries(tmp_path, "") == [tmp_path.parent, folder, image]
    assert entries(tmp_path, "PNG") == [folder, image]


def test_what_one_may_not_look_at_hides_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "forbidden").mkdir()
    (tmp_path / "a.png").touch()

    stat = os.stat

    def guarded(path: Path, **how: Any) -> os.stat_result:
        if Path(path).name == "forbidden":
            raise PermissionError(path)
        return stat(path, **how)

    monkeypatch.setattr(os, "stat", guarded)
    assert entries(tmp_path, "") == [tmp_path.parent, tmp_path / "a.png"]


def test_the_home_is_written_as_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    assert as_written(Path("/home/ann")) == "~"
    assert as_written(Path("/home/ann/Pictures")) == "~/Pictures"
    assert as_written(Path("/home/anna")) == "/home/anna"


@on_loop
async def test_a_folder_without_pictures_says_so_and_leads_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    shutil.copy(SCENE, tmp_path)
    monkeypatch.chdir(tmp_path / "empty")
    async with running(ScriptedWorker()) as driver:
        await driver.pilot.press("@")
        await driver.shows("no pictures here")
        await driver.pilot.press("enter", *"wide")
        await driver.shows("160×120")
        await driver.pilot.press("enter")
        await driver.shows("1 two_shapes_wide.png 160×120")
