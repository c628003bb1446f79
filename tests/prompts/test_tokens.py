"""Tokens of prompts: ids, slots, label masks; and the text of tokens."""

import json
import runpy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from spine import EMBEDDED

from mlx_llava.checkpoint.config_json import from_hf
from mlx_llava.errors import CheckpointError, PromptError
from mlx_llava.inputs import TEXT, Example, ImageCrops
from mlx_llava.prompts.templates import IMAGE, ImageMark, Piece, Special, Text, Turn, template
from mlx_llava.prompts.tokens import Detokenizer, Tokenizer

TINY = Path(__file__).parents[1] / "fixtures" / "llama-576"
GOLDEN = Path(__file__).parents[1] / "golden" / "prompts"
IMAGE_ID, NUM_ROWS, ROWS = 530, 576, 2  # of the tiny checkpoint, but two rows an image
IM_START, IM_END = 31990, 31991

Change = Callable[[dict[str, Any]], object]


def always(spec: dict[str, Any]) -> None:
    spec["pre_tokenizer"]["prepend_scheme"] = "always"


def legacy_normalizer(spec: dict[str, Any]) -> None:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    spec["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    spec["pre_tokenizer"] = None


def joining_specials(spec: dict[str, Any]) -> None:
    """A vocabulary whose merges produce `</s>`, `<image>` and a byte token, as SentencePiece's can."""
    vocab = spec["model"]["vocab"]
    for spelling in ("</s>", "<s>", "<image>", "<0x41>"):
        for end in range(1, len(spelling)):
            for piece in (spelling[:end], spelling[end : end + 1], spelling[: end + 1]):
                vocab.setdefault(piece, len(vocab) + 2)  # 530 and 531 are taken
            spec["model"]["merges"].append([spelling[:end], spelling[end]])


def chatml(spec: dict[str, Any]) -> None:
    for spelling, token in (("<|im_start|>", IM_START), ("<|im_end|>", IM_END)):
        spec["added_tokens"].append(spec["added_tokens"][0] | {"id": token, "content": spelling})


def changed(tmp_path: Path, path: Path, *changes: Change) -> Path:
    spec = json.loads(path.read_text(encoding="utf-8"))
    for change in changes:
        change(spec)
    (tmp_path / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return tmp_path / "tokenizer.json"


def load_tiny(path: Path = TINY / "tokenizer.json", image_id: int = IMAGE_ID, num_rows: int = NUM_ROWS) -> Tokenizer:
    return Tokenizer.load(path, num_rows=num_rows, image_id=image_id, restart_after_image=False)


def load_llama(path: Path = GOLDEN / "llama_pieces.json", restart: bool = True) -> Tokenizer:
    return Tokenizer.load(path, num_rows=32000, image_id=0, restart_after_image=restart)


@pytest.fixture(scope="module")
def tiny() -> Tokenizer:
    return load_tiny()


@pytest.fixture(scope="module")
def llama() -> Tokenizer:
    return load_llama()


def images(pieces: Sequence[Piece], num_rows: int = ROWS) -> list[ImageCrops]:
    image = ImageCrops(np.zeros((1, 4, 4, 3), np.float32), num_rows)
    return [image] * sum(isinstance(piece, ImageMark) for piece in pieces)


def encode(tokenizer: Tokenizer, pieces: Sequence[Piece], training: bool = False) -> Example:
    return tokenizer.encode(pieces, images(pieces), training=training)


def ids(tokenizer: Tokenizer, *pieces: Piece) -> list[int]:
    return encode(tokenizer, pieces).tokens.tolist()


def names(path: Path) -> dict[int, str]:
    spec = json.loads(path.read_text(encoding="utf-8"))
    return {i: p for p, i in spec["model"]["vocab"].items()} | {t["id"]: t["content"] for t in spec["added_tokens"]}


def show(example: Example, spellings: dict[int, str]) -> str:
    """Tokens separated by spaces, `@0` for the first image row, 【】 around trained tokens."""
    shown, trained = [], False
    for token, slot, label in zip(example.tokens, example.slots, example.label_mask, strict=True):
        mark = "" if label == trained else "【" if label else "】"
        name = spellings[int(token)].replace("<0x0A>", "⏎") if slot == TEXT else f"@{slot}"
        shown.append(f"{mark} {name}" if mark == "】" else f" {mark}{name}")
        trained = bool(label)
    return "".join(shown).strip() + "】" * trained


# llava_v1 on the LLaMA vocabulary, as tokenizer_image_token gives it (llava/mm_utils.py); 0 is the image
LLAVA_V1 = [
    1, 319, 13563, 1546, 263, 12758, 5199, 322, 385, 23116, 21082, 20255, 29889, 450, 20255, 4076, 8444, 29892,
    13173, 29892, 322, 1248, 568, 6089, 304, 278, 5199, 29915, 29879, 5155, 29889, 3148, 1001, 29901, 29871, 0,
    29871, 13,
]  # fmt: skip


@pytest.mark.parametrize(("name", "person"), [("llava_v1", 5199), ("vicuna_v1", 1404)])
def test_an_original_prompt_has_the_published_ids(llama: Tokenizer, name: str, person: int) -> None:
    pieces = template(name).answering([Turn("你好", 1)])
    expected = [person if token == 5199 else token for token in LLAVA_V1]
    expected += [3 + byte for byte in "你好".encode()] + [319, 1799, 9047, 13566, 29901]
    assert llama.encode(pieces, images(pieces, 1)).tokens.tolist() == expected


def test_text_after_the_end_of_an_answer_continues_without_a_space(llama: Tokenizer) -> None:
    assert ids(llama, Special("</s>"), Text("USER:")) == [1, 2, 11889, 29901]
    assert ids(llama, Special("</s>"), Text("ASSISTANT:")) == [1, 2, 22933, 9047, 13566, 29901]


def test_text_after_an_image_continues_in_llava_hf() -> None:
    assert ids(load_llama(restart=False), Text("USER:"), IMAGE, Text("\n"))[-4:] == [29901, 0, 0, 13]
    assert ids(load_llama(restart=True), Text("USER:"), IMAGE, Text("\n"))[-5:] == [29901, 0, 0, 29871, 13]


@pytest.mark.parametrize("change", [always, legacy_normalizer])
def test_an_old_tokenizer_starts_every_run_of_text_with_a_space(tmp_path: Path, change: Change) -> None:
    llama = load_llama(changed(tmp_path, GOLDEN / "llama_pieces.json", change), restart=False)
    assert ids(llama, Text("US"), Special("</s>"), Text("USER:")) == [1, 3148, 2, 3148, 1001, 29901]
    assert ids(llama, IMAGE, Text("\n")) == [1, 0, 0, 29871, 13]


def test_neighbouring_text_is_read_as_one(tiny: Tokenizer) -> None:
    assert ids(tiny, Text("r"), Text(""), Text("ed")) == ids(tiny, Text("red"))
    assert ids(tiny, Text(""), Special("</s>"), Text(""), IMAGE) == ids(tiny, Special("</s>"), IMAGE)


def test_a_special_token_the_vocabulary_lacks_is_spelled_out(tiny: Tokenizer) -> None:
    assert ids(tiny, Special("<|im_end|>"), Text("red")) == ids(tiny, Text("<|im_end|>red"))


def test_slots_count_the_rows_of_all_images(tiny: Tokenizer) -> None:
    example = encode(tiny, [IMAGE, Text("a"), IMAGE, IMAGE])
    assert example.slots[example.slots != TEXT].tolist() == [0, 1, 2, 3, 4, 5]
    assert (example.tokens[example.slots != TEXT] == IMAGE_ID).all()
    assert len(example.crops) == 3


def test_recorded_prompts_of_the_embedded_model_have_the_same_length() -> None:
    config = from_hf(json.loads((EMBEDDED / "config.json").read_text()))
    tiny = load_tiny(EMBEDDED / "tokenizer.json", config.image_token_id, config.text.vocab_size)
    for line in (EMBEDDED / "examples" / "questions.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        turns = []
        for i, asked in enumerate(record["turns"]):
            open_turn = Turn(asked["question"], num_images=int(i == 0))
            pieces = template("vicuna_v1").answering([*turns, open_turn])
            assert len(tiny.encode(pieces, images(pieces, 64)).tokens) == asked["prompt_tokens"]
            assert tiny.decode(asked["output_ids"]) == asked["answer"]
            turns.append(Turn(open_turn.question, open_turn.num_images, asked["answer"]))


@pytest.mark.parametrize("num_images", [0, 2])
def test_images_and_marks_must_be_equally_many(tiny: Tokenizer, num_images: int) -> None:
    with pytest.raises(PromptError, match=f"1 image marks but {num_images} images"):
        tiny.encode([IMAGE, Text("a")], images([IMAGE] * num_images))


def test_the_golden_vocabulary_is_what_its_script_writes() -> None:
    written = json.dumps(runpy.run_path(str(GOLDEN / "make_llama_pieces.py"))["tokenizer"]())
    assert json.loads(written) == json.loads((GOLDEN / "llama_pieces.json").read_text(encoding="utf-8"))


CONVERSATION = [Turn("What", 1, "red"), Turn("What", answer="blue")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "vicuna_v1",
            "<s> ▁US ER : ▁ @0 @1 ▁ ⏎ W h a t ▁A SS IST ANT : 【▁red </s>】 "
            "USER : ▁What ▁A SS IST ANT : 【▁blue </s>】",
        ),
        (
            "llama_2",
            "<s> ▁[ INST ] ▁ @0 @1 ▁ ⏎ W h a t ▁[/ INST ] 【▁red ▁ </s>】 "
            "<s> [ INST ] ▁What ▁[/ INST ] 【▁blue ▁ </s>】",
        ),
        (
            "llava_v0",
            "<s> ▁ ⏎ ⏎ 【## #】 ▁Human : ▁ @0 @1 ▁ ⏎ W h a t ⏎ 【## # ▁Assistant : ▁red ⏎ "
            "## #】 ▁Human : ▁What ⏎ 【## # ▁Assistant : ▁blue ⏎ ## # ▁】",
        ),
    ],
)
def test_labels_of_a_conversation_on_the_llama_vocabulary(llama: Tokenizer, name: str, expected: str) -> None:
    example = encode(llama, template(name).training(CONVERSATION, system=""), training=True)
    assert show(example, names(GOLDEN / "llama_pieces.json")) == expected


def test_labels_of_a_chatml_conversation(tmp_path: Path) -> None:
    path = changed(tmp_path, GOLDEN / "llama_pieces.json", chatml)
    tokenizer = Tokenizer.load(path, num_rows=32000, image_id=0, restart_after_image=False)
    example = encode(tokenizer, template("mpt").training(CONVERSATION, system="S"), training=True)
    spelled = show(example, names(path)).replace("<|im_start|>", "(").replace("<|im_end|>", ")")
    assert spelled == (
        "<s> ( s y s t e m ⏎ S ) ( u s e r ⏎ @0 @1 ⏎ W h a t ) ( a s s i s t a n t ⏎ 【r e d )】 "
        "( u s e r ⏎ W h a t ) ( a s s i s t a n t ⏎ 【b l u e )】"
    )


def test_labels_of_a_caption(llama: Tokenizer) -> None:
    example = encode(llama, template("plain").training([Turn("What", 1, "red")]), training=True)
    assert show(example, names(GOLDEN / "llama_pieces.json")) == "<s> @0 @1 【▁red ⏎】"


@given(answers=st.lists(st.text(max_size=12), min_size=1, max_size=4), question=st.text(max_size=12))
@settings(deadline=None)
def test_v1_trains_each_answer_with_its_end_of_sequence(tiny: Tokenizer, answers: list[str], question: str) -> None:
    # LLaVA's rule, read from the ids: after `▁ASSISTANT :` up to and including `</s>` (train.py, preprocess_v1)
    turns = [Turn(question, int(i == 0), answer) for i, answer in enumerate(answers)]
    example = encode(tiny, template("vicuna_v1").training(turns), training=True)
    cue = ids(tiny, Special("</s>"), Text(" ASSISTANT:"))[2:]
    expected, trained, tokens = [], False, example.tokens.tolist()
    for i, token in enumerate(tokens):
        trained = trained or (tokens[i - len(cue) : i] == cue and i > len(cue))
        expected.append(trained)
        trained = trained and token != tiny.eos_id
    assert example.label_mask.tolist() == expected


def test_a_token_across_the_border_of_trained_text_is_trained(tiny: Tokenizer) -> None:
    pieces = [Text("a re"), Text("d", trained=True), Text("é"), Text("é", trained=True), Text("a")]
    shown = show(encode(tiny, pieces), names(TINY / "tokenizer.json"))
    assert shown == "<s> ▁a 【▁red】 <0xC3> <0xA9> 【<0xC3> <0xA9>】 a"


def test_training_on_nothing_is_an_error(tiny: Tokenizer) -> None:
    with pytest.raises(PromptError, match="nothing to train on"):
        encode(tiny, template("vicuna_v1").answering([Turn("What", 1)]), training=True)


SPELLINGS = [
    "<image>", "</s>", "<s>", "<unk>", "<pad>", "<0x41>", "<|im_end|>", "USER:", " ASSISTANT:", "###", " ", "\n", "▁"
]  # fmt: skip
TYPED = st.lists(st.one_of(st.sampled_from(SPELLINGS), st.text(max_size=6)), max_size=8).map("".join)


@pytest.mark.parametrize("changes", [[], [joining_specials]], ids=["tiny", "joining"])
def test_nothing_typed_becomes_a_special_token(tmp_path: Path, changes: list[Change]) -> None:
    tokenizer = load_tiny(changed(tmp_path, TINY / "tokenizer.json", *changes), num_rows=1000)

    @given(question=TYPED, answer=TYPED, num_images=st.integers(0, 3), name=st.sampled_from(["vicuna_v1", "llama_2"]))
    @settings(max_examples=1000, deadline=None)
    def check(question: str, answer: str, num_images: int, name: str) -> None:
        turns = [Turn(question, num_images, answer), Turn(answer, 1, question)]
        pieces = template(name).training(turns, system="S")
        example = encode(tokenizer, pieces)
        counts = {token: int((example.tokens == token).sum()) for token in tokenizer.special_ids.values()}
        assert counts == {0: 0, 1: 2 if name == "llama_2" else 1, 2: 2, IMAGE_ID: (num_images + 1) * ROWS, 531: 0}
        assert int(example.tokens.max()) < 1000
        spelled = "".join(piece.text for piece in pieces if isinstance(piece, Text))
        assert tokenizer.decode(example.tokens.tolist()) == spelled.replace("▁", " ")

    check()


def test_text_that_would_become_a_special_token_is_refused(tmp_path: Path) -> None:
    def unknown_ends(spec: dict[str, Any]) -> None:
        spec["model"] |= {"unk_token": "</s>", "byte_fallback": False}

    tokenizer = load_tiny(changed(tmp_path, TINY / "tokenizer.json", unknown_ends))
    with pytest.raises(PromptError, match="special token"):
        ids(tokenizer, Text("你"))


def test_a_word_found_whole_in_the_vocabulary_is_no_special_token(tmp_path: Path) -> None:
    tiny = load_tiny(changed(tmp_path, TINY / "tokenizer.json", lambda spec: spec["model"].update(ignore_merges=True)))
    assert tiny.decode(ids(tiny, Special("<s>"), Text("</s>"))) == "</s>"


def test_broken_unicode_is_an_error(tiny: Tokenizer) -> None:
    with pytest.raises(PromptError, match="broken character at 1"):
        ids(tiny, Text("a\ud800"))


LIBRARY = tokenizers.Tokenizer.from_file(str(TINY / "tokenizer.json"))


def stream(tokenizer: Tokenizer, tokens: Sequence[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [detokenizer.add(token) for token in tokens] + [detokenizer.finish()]


@given(tokens=st.lists(st.integers(-2, 700) | st.integers(3, 258), max_size=30))
@settings(max_examples=500, deadline=None)
def test_a_stream_equals_the_decoded_text(tiny: Tokenizer, tokens: list[int]) -> None:
    text = "".join(stream(tiny, tokens))
    assert text == tiny.decode(tokens)
    theirs = LIBRARY.decode([token for token in tokens if token >= 0])
    if "\ufffd" in theirs:  # the library loses all bytes next to an invalid one
        assert "\ufffd" in text
    else:
        assert text == theirs


@given(text=st.text())
@settings(max_examples=300, deadline=None)
def test_a_stream_gives_whole_characters(tiny: Tokenizer, text: str) -> None:
    pieces = stream(tiny, ids(tiny, Text(text)))
    assert "".join(pieces) == text.replace("▁", " ").removeprefix(" ")  # as the library reads and writes it
    assert all("\ufffd" not in piece for piece in pieces) or "\ufffd" in text


def test_a_character_appears_with_its_last_byte(tiny: Tokenizer) -> None:
    tokens = [3 + byte for byte in "é🎉".encode()]
    assert stream(tiny, tokens) == ["", "é", "", "", "", "🎉", ""]
    assert stream(tiny, tokens[:-1]) == ["", "é", "", "", "", "\ufffd"]


def test_only_the_first_space_of_the_text_is_dropped(tiny: Tokenizer) -> None:
    [red] = ids(tiny, Text("red"))[1:]
    assert stream(tiny, [red, tiny.eos_id, red, red]) == ["red", "", " red", " red", ""]


def test_unused_rows_and_special_tokens_have_no_text(tiny: Tokenizer) -> None:
    assert stream(tiny, [1, 2, IMAGE_ID, 531, 532, 575, 10**6, -1]) == [""] * 9


def byte_level(spec: dict[str, Any]) -> None:
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {"</s>": 0, "<s>": 1} | {char: 2 + i for i, char in enumerate(alphabet)} | {"ĠA": 300}
    spec["added_tokens"] = []
    spec["pre_tokenizer"] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    spec["decoder"] = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    spec["model"] |= {"vocab": vocab, "merges": [["Ġ", "A"]], "unk_token": None, "byte_fallback": False}
    spec["post_processor"] = None


def test_a_byte_level_vocabulary_is_read_back(tmp_path: Path) -> None:
    tokenizer = load_tiny(changed(tmp_path, TINY / "tokenizer.json", byte_level))

    @given(text=TYPED)
    @settings(deadline=None)
    def check(text: str) -> None:
        example = encode(tokenizer, [Text(text), Special("</s>"), Text(text)])
        assert tokenizer.decode(example.tokens.tolist()) == text + text
        assert (example.tokens == tokenizer.eos_id).sum() == 1

    check()


def test_ids_stay_inside_the_embedding() -> None:
    with pytest.raises(CheckpointError, match="the tokenizer has 532 tokens, the model 531 rows"):
        load_tiny(num_rows=531)
    with pytest.raises(CheckpointError, match="the image token is 600, the model has 576 rows"):
        load_tiny(image_id=600)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nothing\.json: No such file"):
        load_tiny(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{\x00}\x00\xff", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b"[]", "not a BPE tokenizer"),
        (b'{"model": {"type": "Unigram", "vocab": []}}', "not a BPE tokenizer"),
        (b'{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}', "does not load"),
        (b'{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}}', "does not load"),
        (b'{"added_tokens": 3, "model": {"type": "BPE", "vocab": {}, "merges": []}}', "does not load"),
        (b'{"model": {"type": "BPE", "vocab": {"<s>": 0}, "merges": []}}', "has no </s>"),
        (b'{"model": {"type": "BPE", "vocab": {"<s>": 0, "</s>": 1}, "merges": []}}', "decoder"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=problem):
        load_tiny(path)
