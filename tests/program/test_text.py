"""Text on screen can neither drive the terminal nor hide from the reader."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlx_llava.program.text import LINE, MARKS, clean, clean_line, escape, printable, shorten, size

HOSTILE = [chr(n) for n in (*range(0x20), *range(0x7F, 0xA0))] + list(
    "\u200b\u200e\u202e\u2066\ufeff\u00ad\u3164\ud800"
)
anything = st.text(st.one_of(st.characters(), st.sampled_from([*HOSTILE, "\u200d", "\u0301", "é", "a"])))


def obeyed(text: str) -> set[str]:
    """Characters that a terminal obeys, or that turn or hide what is written."""
    hidden = set("\u200b\u2060\ufeff\u00ad\u3164\u061c\u200e\u200f\u2028\u2029")
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cs") or c in hidden or "\u202a" <= c <= "\u202e"}


@given(anything)
@example("\x1b]0;title\x07\x1b[2J\x9b31m\x1b]52;c;aGk=\x1b\\")
@example("a\u200d" + "\u0301" * 20)
@example("x" * LINE + "\u0301" * 20)
@example("x" * (LINE + 1) + "\u200d")
def test_clean_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = clean(text)
    assert obeyed(shown) <= {"\n", "\t"}
    assert clean(shown) == shown
    assert max(map(len, shown.split("\n"))) <= LINE
    assert all(ord(c) >= 0x20 or c in "\n\t" for c in shown)


@given(anything)
def test_printable_text_keeps_its_length_and_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = printable(text)
    assert len(shown) == len(text)
    assert obeyed(shown) <= {"\n", "\t"}
    assert printable(shown) == shown


@given(anything, st.integers(8, 300))
def test_a_clean_line_is_one_line_of_limited_length(text: str, limit: int) -> None:
    shown = clean_line(text, limit)
    assert not obeyed(shown)
    assert len(shown) <= limit
    assert clean_line(shown, limit) == shown


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"), exclude_characters="\u3164\uffa0\u115f\u1160")))
def test_plain_text_stays_as_it_is(text: str) -> None:
    assert clean(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        *(
            (text, text)
            for text in ("deux  lignes\net\tun tab", "日本語　全角", "می‌خواهم", "ѐ́ Z̴a", "12\u202f000 €", "الرقم \u0600")
        ),
        ("👩‍👩‍👧‍👦 🏳️‍🌈 \U0001fae8", "👩‍👩‍👧‍👦 🏳️‍🌈 \U0001fae8"),
        ("\x1b[2J", "␛[2J"),
        ("a\r\nb\rc", "a\nb\nc"),
        ("pay\u200dpal", "pay�pal"),
        ("evil\u202egnp.exe", "evil�gnp.exe"),
        ("a\u2028b", "a\nb"),
        ("\udcff", "�"),
        ("\U0010eeee", "�"),  # Kitty's placeholder, which would draw an image
        ("a" + "\u0301" * (MARKS + 2), "a" + "\u0301" * MARKS + "��"),
    ],
)
def test_writing_of_every_script_stays_and_unsafe_characters_become_symbols(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    shown = clean_line("holiday" * 40 + ".jpeg", 30)
    assert shown.startswith("holiday")
    assert shown.endswith(".jpeg")
    assert (len(shown), clean_line("a\nb\tc\r")) == (30, "a␊b␉c␍")


@given(anything, st.integers(8, 100))
def test_escaped_text_is_printable_and_limited(text: str, limit: int) -> None:
    shown = escape(text, limit)
    assert shown.isprintable()
    assert len(shown) <= limit


@pytest.mark.parametrize(("text", "shown"), [("weight", "weight"), ("x" * 11, "xxxxxxx..."), ("x" * 10, "x" * 10)])
def test_only_long_text_is_shortened(text: str, shown: str) -> None:
    assert shorten(text, 10) == shown


@pytest.mark.parametrize(
    ("num_bytes", "shown"),
    [(0, "0.0 MB"), (1_812_345, "1.8 MB"), (949_000_000, "949.0 MB"), (999_999_999, "1.0 GB"), (14_130e6, "14.1 GB")],
)
def test_sizes_are_in_decimal_units(num_bytes: float, shown: str) -> None:
    assert size(num_bytes) == shown
