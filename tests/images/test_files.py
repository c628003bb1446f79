"""Image files by name: what a typed or pasted path finds."""

import unicodedata
from pathlib import Path

import pytest

from mlx_llava.images.files import SUFFIXES, find_file, is_image_name

SCREENSHOT = "Screenshot 2026-11-28 at 9.22.20\u202fPM.png"


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_the_suffix_of_an_image_counts_in_any_case(suffix: str) -> None:
    assert is_image_name(f"/tmp/cat{suffix.upper()}")
    assert not is_image_name(f"/tmp/cat{suffix}s")
    assert not is_image_name(suffix)


@pytest.mark.parametrize(
    ("name", "typed"),
    [
        (SCREENSHOT, SCREENSHOT.replace("\u202f", " ")),
        (SCREENSHOT, SCREENSHOT.replace("\u202f", "\u00a0")),
        (SCREENSHOT.replace("\u202f", " "), SCREENSHOT),
        ("a\u00a0b\u3000c.png", "a b c.png"),
        (unicodedata.normalize("NFD", "café über.png"), unicodedata.normalize("NFC", "café über.png")),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
        (unicodedata.normalize("NFD", "사진\u202f1.png"), "사진 1.png"),
    ],
)
def test_a_name_that_differs_in_spaces_or_normalization_is_found(name: str, typed: str, tmp_path: Path) -> None:
    folder = tmp_path / f"in {name}"
    folder.mkdir()
    (folder / name).touch()
    assert find_file(tmp_path / f"in {typed}" / typed) == folder / name


def test_an_exact_name_comes_first_and_two_likely_ones_are_not_guessed_from(tmp_path: Path) -> None:
    names = ["a\u00a0b.png", "a\u202fb.png"]
    for name in names:
        (tmp_path / name).touch()
    assert [find_file(tmp_path / name).name for name in names] == names
    assert find_file(tmp_path / "a b.png") == tmp_path / "a b.png"


@pytest.mark.parametrize(
    "typed", ["b.png", "a c.png", "A b.png", "ab.png", "no/a b.png", "\0 x", "\ud800 x", "é" * 200]
)
def test_a_path_without_such_a_file_is_unchanged(typed: str, tmp_path: Path) -> None:
    (tmp_path / "a\u202fb.png").touch()
    assert find_file(tmp_path / typed) == tmp_path / typed


def test_relative_paths_are_found_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / SCREENSHOT).touch()
    assert find_file(Path(SCREENSHOT.replace("\u202f", " "))) == Path(SCREENSHOT)
