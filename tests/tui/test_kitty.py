"""What is written for Kitty graphics, read back as a terminal reads it; and replies as terminals give them."""

import base64
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mlx_llava.tui.kitty import (
    CHUNK,
    MARKS,
    PLACEHOLDER,
    PROBE,
    delete,
    in_tmux,
    parse_reply,
    picture_id,
    placeholders,
    through_tmux,
    tmux_lets_through,
    transmit,
)

KITTY = "\x1b_Gi=31;OK\x1b\\\x1b[6;40;20t\x1bP>|kitty(0.42.1)\x1b\\\x1b[?62;c"
GHOSTTY = "\x1b_Gi=31;OK\x1b\\\x1b[6;34;16t\x1bP>|ghostty 1.2.0\x1b\\\x1b[?62;22;52c"
WEZTERM = "\x1b_Gi=31;OK\x1b\\\x1b[6;18;9t\x1bP>|WezTerm 20240203\x1b\\\x1b[?65;4;6;18;22c"
ITERM2 = "\x1b[6;33;16t\x1bP>|iTerm2 3.5.0\x1b\\\x1b[?64;1;2;4;6;17;18;21;22c"
APPLE = "\x1b[?1;2c"
REFUSING = "\x1b_Gi=31;ENOTSUP: no\x1b\\\x1b[?62c"


def commands(text: str) -> list[tuple[dict[str, str], str]]:
    """The keys and payload of each sequence, nothing left between them."""
    found = re.findall(r"\x1b_G([^;\x1b]*)(?:;([^\x1b]*))?\x1b\\", text)
    assert re.sub(r"\x1b_G[^\x1b]*\x1b\\", "", text) == ""
    return [(dict(pair.split("=") for pair in keys.split(",")), payload) for keys, payload in found]


@given(st.binary(max_size=20_000), st.integers(1, 400), st.integers(1, 400))
def test_a_picture_arrives_whole_in_chunks(png: bytes, columns: int, rows: int) -> None:
    sent = commands("".join(transmit(7, png, columns, rows)))
    assert base64.b64decode("".join(payload for _, payload in sent)) == png
    assert all(len(payload) <= CHUNK for _, payload in sent)
    assert all(len(payload) % 4 == 0 for _, payload in sent)
    assert [keys["m"] for keys, _ in sent] == ["1"] * (len(sent) - 1) + ["0"]
    assert all(keys["q"] == "2" for keys, _ in sent)  # no replies that would look like typed keys
    first = sent[0][0]
    assert (first["a"], first["U"], first["f"], first["i"]) == ("T", "1", "100", "7")
    assert (int(first["c"]), int(first["r"])) == (min(columns, len(MARKS)), min(rows, len(MARKS)))


def test_placeholders_tell_where_they_stand_and_which_picture_they_show() -> None:
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
def test_an_id_fits_into_a_colour_and_is_never_none(number: int) -> None:
    assert 0 < picture_id(number) < 2**24
    assert commands(delete(picture_id(number)))[0][0]["i"] == str(picture_id(number))


@pytest.mark.parametrize(
    ("text", "graphics", "placed", "cell"),
    [
        (KITTY, True, True, (20, 40)),
        (GHOSTTY, True, True, (16, 34)),
        (WEZTERM, True, False, (9, 18)),
        (ITERM2, False, False, (16, 33)),
        (APPLE, False, False, None),
        (REFUSING, False, False, None),
        ("\x1b[6;0;0t\x1b[?1c", False, False, None),
    ],
)
def test_terminals_are_known_by_their_replies(
    text: str, graphics: bool, placed: bool, cell: tuple[int, int] | None
) -> None:
    reply = parse_reply(text)
    assert (reply.complete, reply.graphics, reply.placeholders, reply.cell, reply.rest) == (
        True,
        graphics,
        placed,
        cell,
        "",
    )


@given(st.text("abc \r", max_size=5), st.text("xyz", max_size=5), st.integers(0, len(KITTY)))
def test_what_is_typed_meanwhile_is_given_back(before: str, after: str, cut: int) -> None:
    assert parse_reply(before + KITTY + after).rest == before + after
    assert parse_reply(KITTY[:cut]).complete == (cut == len(KITTY))


@given(st.text())
def test_no_reply_is_too_strange(text: str) -> None:
    reply = parse_reply(text)
    assert reply.graphics == ("\x1b_Gi=31;OK\x1b\\" in text)


def test_the_probe_ends_with_what_every_terminal_answers() -> None:
    assert PROBE.endswith("\x1b[c")
    assert commands(PROBE[: PROBE.index("\x1b[16t")])[0][0]["a"] == "q"


def test_tmux_is_seen_and_passed_through() -> None:
    assert in_tmux({"TMUX": "/tmp/tmux-0/default,1,0"})
    assert in_tmux({"TERM": "tmux-256color"})
    assert not in_tmux({"TERM": "xterm-kitty", "TMUX": ""})
    assert [tmux_lets_through(answer) for answer in ("on\n", "all\n", "off\n", "")] == [True, True, False, False]
    wrapped = through_tmux(delete(5))
    assert wrapped.startswith("\x1bPtmux;\x1b\x1b_G")
    assert wrapped[len("\x1bPtmux;") : -2].replace("\x1b\x1b", "\x1b") == delete(5)
