"""Bounds on the number of tokens: never below it, and near it."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spine import EMBEDDED, LLAMA_576

from mlx_llava.data.lengths import Lengths
from mlx_llava.inputs import ImageCrops
from mlx_llava.prompts.byte_bound import at_most_one_token_per_byte
from mlx_llava.prompts.templates import IMAGE, Piece, Special, Text, Turn, template
from mlx_llava.prompts.tokens import Tokenizer

ROWS = 7
LLAMA = json.loads((LLAMA_576 / "tokenizer.json").read_text())
BUNDLED = json.loads((EMBEDDED / "tokenizer.json").read_text())
PREPEND, REPLACE = (
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
)
LEGACY = {"normalizer": {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}, "pre_tokenizer": None}
SPLIT = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
NO_BYTES = LLAMA["model"] | {"byte_fallback": False}


def byte_level() -> dict[str, Any]:
    """A tokenizer with GPT-2's pre-tokenizer, whose words never join."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [*map(chr, visible), *(chr(0x100 + n) for n in range(256 - len(visible)))]
    vocab = {token: n for n, token in enumerate(["<s>", "</s>", *letters, "Ġt", "he", "in"])}
    model = {"type": "BPE", "vocab": vocab, "merges": [["Ġ", "t"], ["h", "e"], ["i", "n"]]}
    added = [{"id": n, "content": token, "special": True} for n, token in enumerate(["<s>", "</s>"])]
    empty = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "added_tokens": [token | empty for token in added],
        "model": model,
        "normalizer": None,
        "pre_tokenizer": BYTE_LEVEL,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
    }


def with_two_spaces() -> dict[str, Any]:
    """The first merge joins two spaces, as in LLaMA's own vocabulary."""
    model = LLAMA["model"]
    vocab = model["vocab"] | {"▁▁": 1000}
    return LLAMA | {"model": model | {"vocab": vocab, "merges": [["▁", "▁"], *model["merges"]]}}


SPECS = {
    "llama": LLAMA,
    "two spaces": with_two_spaces(),
    "bundled": BUNDLED,
    "space by the normalizer": LLAMA | LEGACY,
    "space before every text, words apart": LLAMA | {"pre_tokenizer": SPLIT},
    "unknown tokens instead of bytes": LLAMA | {"model": NO_BYTES},
    "byte level": byte_level(),
}
UNBOUNDED = {
    "NFKC": LLAMA | {"normalizer": {"type": "NFKC"}},
    "a space of its own and another": LLAMA | {"normalizer": PREPEND},
    "a long replacement": LLAMA | {"normalizer": {"type": "Replace", "pattern": {"String": "a"}, "content": "bbbb"}},
    "an unknown step": LLAMA | {"pre_tokenizer": {"type": "Digits", "individual_digits": True}},
    "no token for a space": LLAMA
    | {"model": LLAMA["model"] | {"vocab": {k: v for k, v in LLAMA["model"]["vocab"].items() if k != "▁"}}},
    "ends of words": LLAMA | {"model": LLAMA["model"] | {"end_of_word_suffix": "</w>"}},
}
TEXTS = st.text(st.sampled_from(" \n.,aeiotrsblu▁é<>/\u3042\ufdfaT"), max_size=60)
PIECES = st.lists(TEXTS.map(Text) | st.sampled_from([IMAGE, Special("</s>"), Special("<|im_end|>")]), max_size=8)


def tokenizer_of(spec: dict[str, Any], *, restart: bool = False) -> Tokenizer:
    return Tokenizer({"added_tokens": [], "decoder": None} | spec, 530, restart)


TOKENIZERS = {f"{name}, {r}": tokenizer_of(spec, restart=r) for name, spec in SPECS.items() for r in (False, True)}
BOUNDS = {name: Lengths(tokenizer, ROWS) for name, tokenizer in TOKENIZERS.items()}
LENGTHS = BOUNDS["llama, False"]


def num_tokens(tokenizer: Tokenizer, pieces: list[Piece]) -> int:
    images = [ImageCrops(np.zeros((1, 0, 0, 3), np.float32), ROWS)] * pieces.count(IMAGE)
    return len(tokenizer.encode(pieces, images).tokens)


@pytest.mark.parametrize("name", BOUNDS)
@given(pieces=PIECES)
def test_no_prompt_has_more_tokens(name: str, pieces: list[Piece]) -> None:
    lengths, exact = BOUNDS[name], num_tokens(TOKENIZERS[name], pieces)
    assert lengths.bounded
    assert exact <= lengths.by_bytes(lengths.runs(pieces))
    assert exact <= lengths.by_words(lengths.runs(pieces))
    assert not lengths.fits(pieces, exact - 1)


@pytest.mark.parametrize("name", UNBOUNDED)
def test_a_tokenizer_that_may_lengthen_a_text_is_always_run(name: str) -> None:
    assert not at_most_one_token_per_byte(UNBOUNDED[name])


def test_a_tokenizer_that_refuses_characters_is_always_run() -> None:
    model = NO_BYTES | {"unk_token": "</s>"}
    lengths = Lengths(tokenizer_of(LLAMA | {"model": model}), ROWS)
    assert not lengths.fits([Text("a")], 1000)


def test_a_long_answer_is_counted_but_for_its_first_word() -> None:
    text = "The small red circle is left of the big blue square, and above it are two green triangles. " * 20
    pieces = template("v1").training([Turn((IMAGE, "\n", "What is there?"), 0, text)], None)
    exact = num_tokens(TOKENIZERS["llama, False"], pieces)
    assert exact <= LENGTHS.by_words(LENGTHS.runs(pieces)) <= exact + 10
    assert LENGTHS.by_bytes(LENGTHS.runs(pieces)) > 2 * exact
    assert LENGTHS.fits(pieces, exact + 10)


def test_a_written_space_sign_may_join_the_next_word() -> None:
    pieces: list[Piece] = [Text("a ▁▁ intelligence" * 10)]
    lengths, exact = BOUNDS["two spaces, False"], num_tokens(TOKENIZERS["two spaces, False"], pieces)
    assert not lengths.fits(pieces, exact - 1)


def test_a_vocabulary_with_pieces_over_a_words_end_is_counted_in_bytes() -> None:
    tokenizer = tokenizer_of(LLAMA)
    tokenizer.spellings = {**tokenizer.spellings, 99: b"of the"}
    text = Text("one two three four")
    lengths = Lengths(tokenizer, ROWS)
    num_bytes = 1 + 1 + len(text.text)
    assert [lengths.fits([text], tokens) for tokens in (num_bytes - 1, num_bytes)] == [False, True]


def test_words_are_remembered_up_to_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_llava.data.lengths.MAX_WORDS", 3)
    lengths = Lengths(tokenizer_of(LLAMA), ROWS)
    text = Text("a b c d e f g h")
    assert lengths.by_words([text.text]) == lengths.by_words([text.text])
    assert len(lengths._counts) <= 3
