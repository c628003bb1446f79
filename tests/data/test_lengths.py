"""A bound on the number of tokens: never below it, and near it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spine import LLAMA_576

from mlx_llava.data.lengths import Lengths
from mlx_llava.inputs import ImageCrops
from mlx_llava.prompts.templates import IMAGE, Piece, Special, Text, Turn, template
from mlx_llava.prompts.tokens import Tokenizer

ROWS = 7
TOKENIZER = Tokenizer.load(LLAMA_576 / "tokenizer.json", image_id=530, num_rows=576, restart_after_image=False)
LENGTHS = Lengths(TOKENIZER, ROWS)
TEXTS = st.text(st.sampled_from(" \n.,aeiotrsblu▁é<>/\u3042"), max_size=60)


def num_tokens(pieces: list[Piece]) -> int:
    images = [ImageCrops(np.zeros((1, 0, 0, 3), np.float32), ROWS)] * pieces.count(IMAGE)
    return len(TOKENIZER.encode(pieces, images).tokens)


@given(st.lists(TEXTS.map(Text) | st.just(IMAGE) | st.just(Special("</s>")), max_size=8))
def test_no_prompt_has_more_tokens(pieces: list[Piece]) -> None:
    assert num_tokens(pieces) <= LENGTHS.at_most(pieces)


def test_a_long_answer_is_counted_but_for_its_ends() -> None:
    text = "The small red circle is left of the big blue square, and above it are two green triangles. " * 20
    pieces = template("v1").training([Turn((IMAGE, "\n", "What is there?"), 0, text)], None)
    exact = num_tokens(pieces)
    assert exact <= LENGTHS.at_most(pieces) <= 1.1 * exact
    assert len(text) > 2 * exact  # what the bytes alone would tell


def test_a_vocabulary_with_pieces_over_a_words_end_is_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TOKENIZER, "spellings", {**TOKENIZER.spellings, 99: b"of the"})
    lengths = Lengths(TOKENIZER, ROWS)
    assert not lengths.words_are_separate
    assert lengths.at_most([Text("one two three four")]) == 1 + 1 + len("one two three four")


def test_words_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.data.lengths.MAX_WORDS", 3)
    lengths = Lengths(TOKENIZER, ROWS)
    text = Text("a b c d e f g h")
    assert lengths.at_most([text]) == lengths.at_most([text])
    assert len(lengths._counts) <= 3
