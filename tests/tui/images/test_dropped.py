"""Dropped and pasted files are recognized exactly, however a terminal quotes them; text stays text."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mlx_llava.tui.images.dropped import MAX_FILES, Drop, parse_drop

FOLDER = "/Users/someone/My Pictures"


def escaped(path: str, special: str) -> str:
    """Backslashes before characters that are special in a shell."""
    return re.sub(f"([{re.escape(special)}])", r"\\\1", path)


def macos_terminal(paths: Sequence[str]) -> str:
    return "".join(escaped(path, " !\"#$&'()*,;<=>?[\\]^`{|}~\t") + " " for path in paths)


def iterm2(paths: Sequence[str]) -> str:
    return " ".join(escaped(path, " !\"#$&'()*;<>?[\\]^`{|}~\t") for path in paths) + " "


def ghostty(paths: Sequence[str]) -> str:
    return " ".join(escaped(path, "\\ ()[]{}<>\"'`!#$&;|*?\t") for path in paths)


def kitty(paths: Sequence[str]) -> str:
    return "\n".join(paths)


def kitty_at_a_shell(paths: Sequence[str]) -> str:
    return " ".join(map(shlex.quote, paths))


def gnome_terminal(paths: Sequence[str]) -> str:
    return "".join("'{}' ".format(path.replace("'", "'\\''")) for path in paths)


def vs_code(paths: Sequence[str]) -> str:
    """`escapeNonWindowsPath` for bash and zsh."""

    def spelled(path: str) -> str:
        path = path.replace("\\", "\\\\")
        return ("$" if "'" in path and '"' in path else "") + "'{}'".format(path.replace("'", "\\'"))

    return " ".join(map(spelled, paths))


def uris(paths: Sequence[str]) -> str:
    return "".join(f"file://{quote(path)}\r\n" for path in paths)


TERMINALS = (macos_terminal, iterm2, ghostty, kitty, kitty_at_a_shell, gnome_terminal, vs_code, uris)
letters = st.characters(codec="utf-8", exclude_categories=("Cc",), exclude_characters="/")
names = st.lists(
    st.text(st.one_of(letters, st.sampled_from(" \\'\"$`&()[]{}*?!~#;\u202f")), min_size=1, max_size=12).filter(
        lambda name: name not in (".", "..") and name.strip(" ") == name
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda name: re.sub(r"[\\'\"$]", "", name),  # else one quoted file is another's name
)


@given(names, st.sampled_from(TERMINALS), st.sampled_from(["", ".png", ".JPG"]))
def test_any_files_are_recognized_as_every_terminal_quotes_them(
    given_names: list[str], terminal: Callable[[Sequence[str]], str], suffix: str
) -> None:
    paths = [f"{FOLDER}/{name}{suffix}" for name in given_names]
    assume(terminal is not vs_code or not re.search(r"[`$|&>~#!^*;<]", "".join(paths)))  # which VS Code removes
    found = parse_drop(terminal(paths), set(paths).__contains__)
    assert found == Drop(paths=tuple(map(Path, paths)))


@given(st.text())
def test_text_without_files_is_unchanged(text: str) -> None:
    found = parse_drop(text, lambda _: False)
    assert found.text == text or (not found.text and (found.paths or found.urls))


@pytest.mark.parametrize(
    "text",
    [
        "what is in /tmp/cat.png?",
        "/tmp/cat.pngs what is this?",
        "/tmp/cat.png: what is this?",
        "cat.png what is this?",
        "compare /tmp/cat.png and /tmp/dog.png",
        "/image /tmp/cat.png",
        "it's a quote that is never closed",
        "see https://example.org/cat.png",
        "https://example.org/page.html",
        "cat.png",
        "file://server/share/cat.png",
        "",
        " \n ",
        "/tmp/cat.png\0",
        "/help",
        "~nobody-of-this-name/cat.png",
        "\ud800.png",
        "/tmp/\ud800.png",
        "file:///tmp/%00.png",
    ],
)
def test_text_that_is_more_than_files_stays_text(text: str) -> None:
    assert parse_drop(text, {"/tmp/cat.png", "/tmp/dog.png"}.__contains__) == Drop(text=text)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("/tmp/a\\ b.png", ["/tmp/a b.png"]),
        ("'/tmp/a b.png' /tmp/c.heic ", ["/tmp/a b.png", "/tmp/c.heic"]),
        ("/tmp/a.png\r/tmp/b.jpeg\r", ["/tmp/a.png", "/tmp/b.jpeg"]),
        ("file://localhost/tmp/%C3%A9%20.PNG", ["/tmp/é .PNG"]),
        ("/tmp/a b.png", ["/tmp/a b.png"]),
        ("~/Screenshot at 9.22.20 PM.png\n", [str(Path("~/Screenshot at 9.22.20 PM.png").expanduser())]),
        ("/tmp/a b.png\n/tmp/c d.png", ["/tmp/a b.png", "/tmp/c d.png"]),
    ],
)
def test_a_missing_image_is_still_an_image(text: str, paths: list[str]) -> None:
    assert parse_drop(text, lambda _: False).paths == tuple(map(Path, paths))


CAT, DOG, SHOT, URL = "/tmp/cat.png", "/tmp/my dog.png", "/tmp/Shot at 9.22\u202fPM.png", "https://x.org/a.png?b"


@pytest.mark.parametrize(
    ("text", "paths", "urls", "rest"),
    [
        (f"{CAT} what is this?", [CAT], [], "what is this?"),
        (f"{CAT}\nwhat is this?\nAnd why?\n", [CAT], [], "what is this?\nAnd why?"),
        (f"{DOG} what is this?", [DOG], [], "what is this?"),
        (f"'{DOG}' what's this?", [DOG], [], "what's this?"),
        ("/tmp/my\\ dog.png is this cat.png", [DOG], [], "is this cat.png"),
        (f"file:///tmp/my%20dog.png {CAT} which?", [DOG, CAT], [], "which?"),
        (f"{SHOT} what?", [SHOT], [], "what?"),
        (f"{URL} {CAT} which?", [CAT], [URL], "which?"),
    ],
)
def test_a_question_may_follow_its_images(text: str, paths: list[str], urls: list[str], rest: str) -> None:
    found = parse_drop(text, {CAT, DOG, SHOT}.__contains__)
    assert found == Drop(tuple(map(Path, paths)), tuple(urls), rest)


@pytest.mark.parametrize("text", ["/tmp/no.png what is this?", "'/tmp/no.png' what is in cat.jpg now?"])
def test_a_missing_image_before_a_question_is_named_and_the_text_stays(text: str) -> None:
    assert parse_drop(text, {CAT}.__contains__) == Drop((Path("/tmp/no.png"),), text=text)


def test_a_long_text_that_starts_like_a_path_is_read_in_no_time() -> None:
    text = f"/{'tmp/a.png ' * 50_000}?"
    assert parse_drop(text, lambda _: False).text == text


def test_a_folded_space_in_a_pasted_name_is_unfolded(tmp_path: Path) -> None:
    file = tmp_path / "Screenshot 2026-11-28 at 9.22.20\u202fPM.png"
    file.touch()
    pasted = str(file).replace("\u202f", " ")
    assert parse_drop(pasted).paths == parse_drop(f"'{pasted}'").paths == (file,)
    assert parse_drop(f"{pasted} what is this?") == Drop((file,), text="what is this?")


def test_home_and_the_current_folder_are_resolved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.png").touch()
    (tmp_path / "README").touch()
    for name in ("~/cat.png", "./cat.png", "cat.png"):
        assert parse_drop(name).paths == (tmp_path / "cat.png",)
    assert parse_drop("README").text == "README"


def test_urls_of_images_can_be_mixed_with_files() -> None:
    urls = ("https://example.org/a/Cat.JPG?x=1", "http://example.org/media?format=jpg&name=large")
    found = parse_drop(" /tmp/cat.png\n".join(urls), {"/tmp/cat.png"}.__contains__)
    assert found == Drop((Path("/tmp/cat.png"),), urls)


def test_the_number_of_files_is_limited() -> None:
    assert len(parse_drop("/a.png " * MAX_FILES, {"/a.png"}.__contains__).paths) == MAX_FILES
    assert not parse_drop("/a.png " * (MAX_FILES + 1), {"/a.png"}.__contains__).paths
