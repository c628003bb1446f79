"""Our tokens are those transformers gives the prompt as one string, and our text is its text."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mlx_llava.inputs import ImageCrops
from mlx_llava.prompts.templates import SPECIALS, ImageMark, Piece, Turn, spell, template
from mlx_llava.prompts.tokens import Tokenizer

transformers = pytest.importorskip("transformers")

TINY = Path(__file__).parents[1] / "fixtures" / "llama-576"
IMAGE_ID, NUM_ROWS, ROWS = 530, 576, 64


def write(folder: Path, **changes: Any) -> Path:
    spec = json.loads((TINY / "tokenizer.json").read_text(encoding="utf-8")) | changes
    (folder / "tokenizer.json").write_text(json.dumps(spec), encoding="utf-8")
    return folder / "tokenizer.json"


def load(path: Path) -> Tokenizer:
    return Tokenizer.load(path, num_rows=NUM_ROWS, image_id=IMAGE_ID, restart_after_image=False)


def metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}


LEGACY_NORMALIZER = {
    "type": "Sequence",
    "normalizers": [
        {"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
    ],
}
FILES = {
    "first": {"pre_tokenizer": metaspace("first")},
    "always": {"pre_tokenizer": metaspace("always")},
    "never": {"pre_tokenizer": metaspace("never")},
    "legacy normalizer": {"pre_tokenizer": None, "normalizer": LEGACY_NORMALIZER},
}


def ours(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> list[int]:
    image = ImageCrops(np.zeros((1, 4, 4, 3), np.float32), ROWS)
    return tokenizer.encode(pieces, [image] * sum(isinstance(piece, ImageMark) for piece in pieces)).tokens.tolist()


def spelled(pieces: Sequence[Piece]) -> str:
    return spell(pieces).replace("<image>", "<image>" * ROWS)


def innocent(text: str) -> bool:
    return not any(special in text for special in (*SPECIALS, "<image>", "<unk>", "<pad>"))


WORDS = st.sampled_from(
    ["What color is the circle?", "红色的圆在哪里", "où est-il ?", "🎉👩‍👩‍👧", " ", "  ", "\n", "</", "s>", "red"]
)
TYPED = st.lists(st.one_of(WORDS, st.text(max_size=6)), max_size=5).map("".join).filter(innocent)
TURNS = st.lists(st.builds(Turn, TYPED, st.integers(0, 2), TYPED), min_size=1, max_size=4)
NAMES = st.sampled_from(["vicuna_v1", "llava_v1", "v1_mmtag", "llava_llama_2", "mistral_instruct", "llava_v0", "mpt"])


@pytest.mark.parametrize("file", FILES)
def test_a_prompt_has_the_ids_of_its_string(tmp_path: Path, file: str) -> None:
    path = write(tmp_path, **FILES[file])
    tokenizer, theirs = load(path), transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))

    @given(turns=TURNS, name=NAMES)
    @settings(max_examples=300, deadline=None)
    def check(turns: list[Turn], name: str) -> None:
        for pieces in (
            template("plain").training([Turn("", 1, turns[0].answer)]),
            template(name).training(turns),
            template(name).answering([*turns[:-1], Turn(turns[-1].question, turns[-1].num_images)]),
        ):
            ids = ours(tokenizer, pieces)
            assert ids == theirs(spelled(pieces))["input_ids"]
            assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)

    check()


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_auto_tokenizer_gives_the_same_ids(tmp_path: Path, scheme: str) -> None:
    config = json.loads((TINY / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["legacy"] = scheme == "always"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = load(write(tmp_path, **FILES[scheme]))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)

    @given(turns=TURNS)
    @settings(max_examples=300, deadline=None)
    def check(turns: list[Turn]) -> None:
        pieces = template("vicuna_v1").training(turns)
        assert ours(tokenizer, pieces) == theirs(spelled(pieces))["input_ids"]

    check()


@pytest.mark.parametrize("num_images", [1, 2])
def test_the_processor_gives_the_same_ids_with_pictures(num_images: int) -> None:
    processor = transformers.AutoProcessor.from_pretrained(TINY)
    pieces = template("vicuna_v1").answering([Turn("What color is the circle?", num_images)])
    images = [Image.new("RGB", (96, 96))] * num_images
    theirs = processor(text=spell(pieces), images=images, return_tensors="np")["input_ids"][0].tolist()
    assert ours(load(TINY / "tokenizer.json"), pieces) == theirs


def test_the_chat_template_of_the_tiny_checkpoint_writes_our_prompt() -> None:
    processor = transformers.AutoProcessor.from_pretrained(TINY)
    messages = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Q1"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "A1"}]},
        {"role": "user", "content": [{"type": "text", "text": "Q2"}]},
    ]
    pieces = template("vicuna_v1").answering([Turn("Q1", 1, "A1"), Turn("Q2")])
    assert processor.apply_chat_template(messages, add_generation_prompt=True) == spell(pieces)
