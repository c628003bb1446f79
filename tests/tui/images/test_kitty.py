"""Kitty graphics as a terminal parses them, and replies as terminals send them."""

import base64
import os
import pty
import re
import unicodedata
from io import BytesIO
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.cells import cell_len
from screen import on_loop, running
from scripted import ScriptedWorker
from spine import EMBEDDED

from mlx_llava.tui.images.kitty import (
    CHUNK,
    MARKS,
    PLACEHOLDER,
    PROBE,
    Kitty,
    TerminalReply,
    delete,
    image_id,
    parse_reply,
    placeholders,
    query_terminal,
    transmit,
)

SCENE = EMBEDDED / "examples" / "two_shapes_wide.png"
KITTY = "\x1b_Gi=31;OK\x1b\\\x1bP>|kitty(0.42.1)\x1b\\\x1b[?62;c"
OLD_KITTY = KITTY.replace("0.42.1", "0.26.5")
GHOSTTY = "\x1b_Gi=31;OK\x1b\\\x1bP>|ghostty 1.2.0\x1b\\\x1b[?62;22;52c"
WEZTERM = "\x1b_Gi=31;OK\x1b\\\x1bP>|WezTerm 20240203\x1b\\\x1b[?65;4;6;18;22c"
ITERM2 = "\x1bP>|iTerm2 3.5.0\x1b\\\x1b[?64;1;2;4;6;17;18;21;22c"
APPLE = "\x1b[?1;2c"
REFUSING = "\x1b_Gi=31;ENOTSUP: no\x1b\\\x1b[?62c"


def commands(text: str) -> list[tuple[dict[str, str], str]]:
    """The keys and payload of each sequence; nothing else may be between them."""
    found = re.findall(r"\x1b_G([^;\x1b]*)(?:;([^\x1b]*))?\x1b\\", text)
    assert re.sub(r"\x1b_G[^\x1b]*\x1b\\", "", text) == ""
    return [(dict(pair.split("=") for pair in keys.split(",")), payload) for keys, payload in found]


@given(st.binary(max_size=20_000), st.integers(1, 400), st.integers(1, 400))
def test_an_image_arrives_whole_in_chunks(png: bytes, columns: int, rows: int) -> None:
    sent = commands("".join(transmit(7, png, columns, rows)))
    assert base64.b64decode("".join(payload for _, payload in sent)) == png
    assert all(len(payload) <= CHUNK for _, payload in sent)
    assert all(len(payload) % 4 == 0 for _, payload in sent)
    assert [keys["m"] for keys, _ in sent] == ["1"] * (len(sent) - 1) + ["0"]
    assert all(keys["q"] == "2" for keys, _ in sent)  # no replies that would look like typed keys
    first = sent[0][0]
    assert (first["a"], first["U"], first["f"], first["i"]) == ("T", "1", "100", "7")
    assert (int(first["c"]), int(first["r"])) == (min(columns, len(MARKS)), min(rows, len(MARKS)))


def test_placeholders_encode_their_position_and_image() -> None:
    lines = placeholders(0x123456, 5, 3)
    for row, (segment,) in enumerate(lines):
        cells = re.findall(f"{PLACEHOLDER}(.)(.)", segment.text)
        assert [(MARKS.index(a), MARKS.index(b)) for a, b in cells] == [(row, column) for column in range(5)]
        assert cell_len(segment.text) == 5
        assert segment.style
        assert segment.style.color
        assert segment.style.color.triplet == (0x12, 0x34, 0x56)
    assert len(lines) == 3


def test_the_marks_are_those_of_the_protocol() -> None:
    assert len(MARKS) == len(set(MARKS)) == 297
    assert (MARKS[0], MARKS[1], MARKS[29], MARKS[-1]) == ("\u0305", "\u030d", "\u036f", "\U0001d244")
    assert {unicodedata.combining(mark) for mark in MARKS} == {230}


@given(st.integers(0, 2**40))
def test_an_id_fits_into_a_colour_and_is_never_zero(number: int) -> None:
    assert 0 < image_id(number) < 2**24
    assert commands(delete(image_id(number)))[0][0]["i"] == str(image_id(number))


@pytest.mark.parametrize(
    ("text", "graphics", "placed"),
    [
        (KITTY, True, True),
        (OLD_KITTY, True, False),
        (GHOSTTY, True, True),
        (WEZTERM, True, False),
        (ITERM2, False, False),
        (APPLE, False, False),
        (REFUSING, False, False),
    ],
)
def test_terminals_are_recognized_by_their_replies(text: str, graphics: bool, placed: bool) -> None:
    reply = parse_reply(text)
    assert (reply.complete, reply.graphics, reply.placeholders, reply.rest) == (True, graphics, placed, "")


@given(st.text("abc \r", max_size=5), st.text("xyz", max_size=5), st.integers(0, len(KITTY)))
def test_keys_typed_in_the_meantime_are_in_the_rest(before: str, after: str, cut: int) -> None:
    assert parse_reply(before + KITTY + after).rest == before + after
    assert parse_reply(KITTY[:cut]).complete == (cut == len(KITTY))
    assert parse_reply(before + KITTY[:cut]).rest == before


@given(st.text())
def test_any_text_can_be_parsed_as_a_reply(text: str) -> None:
    reply = parse_reply(text)
    assert reply.graphics == ("\x1b_Gi=31;OK\x1b\\" in text)


def test_the_probe_ends_with_a_query_that_every_terminal_answers() -> None:
    assert PROBE.endswith("\x1b[c")
    assert commands(PROBE[: PROBE.index("\x1b[>q")])[0][0]["a"] == "q"


def test_querying_a_terminal_keeps_keys_typed_in_the_meantime() -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, b"hi")
        terminal = Thread(target=lambda: os.write(ours, b" the" + KITTY.encode() + b"re"))
        terminal.start()
        reply = query_terminal(theirs, 5)
        terminal.join()
        assert reply.placeholders
        assert "hi there".startswith(reply.rest)
        assert os.read(ours, 4096).decode().endswith(PROBE)
        assert query_terminal(theirs, 0.01) == TerminalReply(rest="hi there"[len(reply.rest) :])
    finally:
        os.close(ours)
        os.close(theirs)


def test_an_image_stays_in_the_terminal_until_it_is_deleted() -> None:
    written: list[str] = []
    kitty = Kitty(written.append)
    pil_image = Image.new("RGB", (40, 30), "#123456")
    first, drawn = kitty.show(pil_image, 4, 2)
    second, _ = kitty.show(pil_image, 4, 2)
    assert first != second
    assert drawn == placeholders(first, 4, 2)
    sent = commands("".join(written))
    assert [keys["i"] for keys, _ in sent] == [str(first), str(second)]
    assert Image.open(BytesIO(base64.b64decode(sent[0][1]))).tobytes() == pil_image.tobytes()
    written.clear()
    kitty.forget(first)
    kitty.forget(first)
    kitty.close()
    assert written == [delete(first), delete(second)]


@on_loop
async def test_images_of_the_chat_are_transmitted_and_deleted_at_last() -> None:
    async with running(ScriptedWorker(), size=(100, 30)) as driver:
        written: list[str] = []
        driver.app.use_kitty(Kitty(written.append))
        driver.app.chat.composer.attach([SCENE])
        await driver.until(lambda: driver.session.engine.usage and driver.session.engine.usage.images)
        await driver.ask("What?")
        await driver.until(lambda: PLACEHOLDER in driver.text())
        ((keys, _),) = commands("".join(written))
        await driver.pilot.press("f3")
        await driver.shows("24×24 patches")
        await driver.until(lambda: len([c for c, _ in commands("".join(written)) if c.get("a") == "T"]) >= 4)
        await driver.pilot.press("escape")
        await driver.type("/set images blocks", "enter")
        await driver.until(lambda: PLACEHOLDER not in driver.text())
        await driver.until(lambda: delete(int(keys["i"])) in written)
        await driver.type("/set images auto", "enter")
        await driver.until(lambda: PLACEHOLDER in driver.text())
        await driver.type("/new", "enter")
        await driver.until(lambda: PLACEHOLDER not in driver.text())
    done = commands("".join(written))
    shown = {c["i"] for c, _ in done if c.get("a") == "T"}
    assert keys["i"] in shown
    assert {c["i"] for c, _ in done if c.get("a") == "d"} == shown  # all were deleted
