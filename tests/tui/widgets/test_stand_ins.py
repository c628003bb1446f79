"""A text field shows a question safely and holds it unchanged."""

from hypothesis import example, given
from hypothesis import strategies as st
from rich.cells import cell_len

from mlx_llava.program.text import LINE, clean
from mlx_llava.tui.widgets.stand_ins import decode, encode, symbols

unsafe = st.sampled_from("\x00\x1b\x7f\x85\x9b\xad\u200b\u200d\u202e\u2028\ufeff\U000e0067\U000f0000\U0010fffd\ud800")


@given(st.text(st.one_of(st.characters(), unsafe)))
@example("é" * (3 * LINE))
@example("a\n" + "x\u200b" * LINE + "\n")
@example("a" + "\u0301" * 20 + "\u200d")
def test_a_text_is_decoded_as_it_was_encoded(text: str) -> None:
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    assert decode(encode(text)) == text
    assert decode(encode(encode(text))) == encode(text)  # a private-use character may be a person's own


@given(st.text(st.one_of(st.characters(), unsafe)))
def test_what_is_drawn_is_clean_and_as_wide_as_what_is_held(text: str) -> None:
    held = encode(text)
    shown = symbols(held)
    assert shown.split("\n") == [clean(line) for line in shown.split("\n")]
    assert len(shown) == len(held)
    assert held.splitlines() == held.split("\n")[: len(held.splitlines())]
    assert cell_len(shown) == cell_len(held)
