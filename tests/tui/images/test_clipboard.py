"""Images on the clipboard become attachments."""

import sys
from pathlib import Path

import pytest
from screen import on_loop, running
from scripted import ScriptedWorker
from spine import EMBEDDED
from textual import events

from mlx_llava.errors import ImageError
from mlx_llava.tui.images import clipboard
from mlx_llava.tui.images.attachments import from_clipboard

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"


def program(folder: Path, name: str, script: str) -> None:
    """Put a program with this name on the path."""
    file = folder / name
    file.write_text(f"#!{sys.executable}\nimport sys, pathlib\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


PRINTS = f"sys.stdout.buffer.write(pathlib.Path({str(SCENE)!r}).read_bytes())"


def test_the_first_program_with_an_image_is_used(path: Path) -> None:
    program(path, "wl-paste", "sys.exit('no such type')")
    program(path, "xclip", f"assert sys.argv[1:] == {clipboard.READERS[1][1:]}; {PRINTS}")
    assert clipboard.read_image() == SCENE.read_bytes()
    assert from_clipboard().size == (160, 120)


def test_on_macos_applescript_writes_the_image_to_a_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    script = f"pathlib.Path(sys.argv[-1]).write_bytes(pathlib.Path({str(SCENE)!r}).read_bytes())"
    program(path, "osascript", f"assert 'PNGf' in ' '.join(sys.argv); {script}")
    assert clipboard.read_image() == SCENE.read_bytes()
    program(path, "osascript", "sys.exit(1)")
    assert clipboard.read_image() is None


@pytest.mark.parametrize("script", ["sys.exit(1)", "print(end='')", None])
def test_an_empty_clipboard_is_an_error(script: str | None, path: Path) -> None:
    if script:
        program(path, "wl-paste", script)
    with pytest.raises(ImageError, match="no image on the clipboard"):
        from_clipboard()


@on_loop
async def test_a_command_and_a_paste_without_text_attach_the_image(path: Path) -> None:
    program(path, "wl-paste", PRINTS)
    async with running(ScriptedWorker()) as driver:
        await driver.type("/paste", "enter")
        await driver.shows("1 clipboard.png 160×120")
        driver.app.chat.composer.prompt.post_message(events.Paste(""))
        await driver.shows("2 clipboard.png 160×120")
        program(path, "wl-paste", "sys.exit(1)")
        await driver.type("/paste", "enter")
        await driver.shows("there is no image on the clipboard")
