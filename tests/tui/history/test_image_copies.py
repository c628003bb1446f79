"""Images of saved chats are shown again, or an error names the missing one."""

import os
import stat
from pathlib import Path

import pytest
from saved_chats import saved_image as image

from mlx_llava.errors import ImageError
from mlx_llava.tui.history import image_copies
from mlx_llava.tui.history.history import History
from mlx_llava.tui.history.image_copies import SavedImage


def test_only_the_owner_can_read_the_history(history: History, folder: Path) -> None:
    old = os.umask(0)
    try:
        chat = history.begin("embedded", {})
        history.add(chat, "user", "?", None, [image(b"cat")])
    finally:
        os.umask(old)
    for path in (folder, *folder.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_an_image_is_shown_again_after_its_file_is_deleted(history: History, tmp_path: Path) -> None:
    file = tmp_path / "cat.png"
    file.write_bytes(b"cat")
    chat = history.begin("embedded", {})
    history.add(chat, "user", "?", None, [image(b"cat", origin=str(file))])
    file.unlink()
    (message,) = history.load(chat).path()
    assert history.read_image(message.images[0]) == b"cat"


def test_a_large_image_is_read_from_its_path(
    history: History, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_copies, "MAX_COPY", 2)
    file = tmp_path / os.fsdecode(b"c\xff\xc3\xa9.png")  # not valid UTF-8
    file.write_bytes(b"cat")
    chat = history.begin("embedded", {})
    history.add(chat, "user", "?", None, [image(b"cat", origin=str(file)), image(b"pasted")])
    large, pasted = history.load(chat).path()[0].images
    assert (history.read_image(large), history.read_image(pasted)) == (b"cat", b"pasted")
    assert len(list(folder.glob("pictures/*/*"))) == 1  # an image without a path is copied, whatever its size
    file.write_bytes(b"dog")
    with pytest.raises(ImageError, match=r"cat\.png: the file at .* has changed"):
        history.read_image(large)
    file.unlink()
    with pytest.raises(ImageError, match=r"cat\.png: the file at .* is missing"):
        history.read_image(large)


def test_a_damaged_copy_is_not_shown(history: History, folder: Path) -> None:
    chat = history.begin("embedded", {})
    history.add(chat, "user", "?", None, [image(b"cat")])
    next(iter(folder.glob("pictures/*/*"))).write_bytes(b"dog")
    with pytest.raises(ImageError):
        history.read_image(history.load(chat).path()[0].images[0])
    with pytest.raises(ImageError, match="not the digest"):
        history.read_image(SavedImage("x", "../../../etc/passwd", (1, 1)))
