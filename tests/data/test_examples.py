"""Examples: whole, exact, or refused by name."""

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_llava.data.dataset import read
from mlx_llava.data.examples import Examples, Maker
from mlx_llava.data.records import Record, record_of
from mlx_llava.errors import ImageError, RecordError
from mlx_llava.images.pixels import crop, open_image
from mlx_llava.prompts.templates import IMAGE, Piece, Turn, spell, template

Write = Callable[[Any], Path]
CAT = Record("cat", (Turn((IMAGE, "\nWhat?"), 0, "red"), Turn(("Sure?",), 0, "yes")), ("red.png",))
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]


def rows(*answers: str) -> list[dict[str, Any]]:
    return [{"conversations": [SAID[0], {"from": "gpt", "value": answer}]} for answer in answers]


def test_every_answer_and_its_end_is_trained_and_nothing_else(maker: Maker) -> None:
    example = maker.example(CAT)
    trained, others = ([*example.tokens[mask]] for mask in (example.label_mask, ~example.label_mask))
    assert maker.tokenizer.decode(trained).split() == ["red", "yes"]
    assert trained.count(maker.tokenizer.eos_id) == 2
    assert maker.tokenizer.eos_id not in others
    assert "red" not in maker.tokenizer.decode(others)


def test_pictures_are_seen_as_llava_was_trained(maker: Maker, images: Path) -> None:
    expected = crop(open_image(images / "red.png", "exact"), maker.image)
    assert np.array_equal(maker.example(CAT).crops, expected[None])


@pytest.mark.parametrize(
    ("question", "moved"),
    [
        ((IMAGE, "\nWhat?"), (IMAGE, "\n", "What?")),
        (("What?\n", IMAGE), (IMAGE, "\n", "What?")),
        (("A ", IMAGE, " or ", IMAGE, "?"), (IMAGE, "\n", IMAGE, "\n", "A  or ?")),
        ((IMAGE,), (IMAGE,)),
        (("No picture ",), ("No picture ",)),
    ],
)
def test_pictures_move_to_the_front_only_if_asked(
    maker: Maker, question: tuple[Any, ...], moved: tuple[Any, ...]
) -> None:
    names = ("red.png",) * question.count(IMAGE)

    def tokens(maker: Maker, parts: tuple[Any, ...]) -> list[int]:
        return maker.example(Record("a", (Turn(parts, 0, "b"),), names)).tokens.tolist()

    assert tokens(replace(maker, images_first=True), question) == tokens(maker, moved)
    assert (tokens(maker, question) == tokens(maker, moved)) == (
        "".join(map(text, question)) == "".join(map(text, moved))
    )


def text(part: Any) -> str:
    return part if isinstance(part, str) else part.text


def test_tokens_are_counted_without_opening_a_picture(maker: Maker) -> None:
    there, gone = CAT, replace(CAT, images=("gone.png",))
    assert maker.num_tokens(gone) == len(maker.example(there).tokens)


def test_a_record_at_the_limit_fits_and_one_above_is_refused_and_never_cut(maker: Maker) -> None:
    tokens = maker.num_tokens(CAT)
    assert len(replace(maker, max_tokens=tokens).example(CAT).tokens) == tokens
    short = replace(maker, max_tokens=tokens - 1)
    with pytest.raises(RecordError, match=f"a record: {tokens} tokens, the limit is {tokens - 1}"):
        short.example(CAT)
    assert short.fault(CAT) == f"a record: {tokens} tokens, the limit is {tokens - 1}"


@pytest.mark.parametrize("words", ["cat", "ﷺ ", "🙂", "a b", "\n\t", "</s><image>", "▁"])
@pytest.mark.parametrize("key", ["v1", "v0", "mistral_instruct", "chatml_direct"])
def test_a_record_that_is_let_through_uncounted_is_never_too_long(maker: Maker, key: str, words: str) -> None:
    maker = replace(maker, template=template(key))
    record = Record("a", (Turn((IMAGE, words * 5), 0, words * 9),) * 2, ("red.png",) * 2)
    tokens = maker.num_tokens(record)
    assert [replace(maker, max_tokens=n).fault(record) is None for n in (tokens - 1, tokens)] == [False, True]


def test_a_missing_picture_is_told_with_its_record(maker: Maker) -> None:
    with pytest.raises(ImageError, match=r"(?s)train.json: record 4: .*gone\.png: there is no such file"):
        maker.example(replace(CAT, images=("gone.png",), where="train.json: record 4"))


def test_the_plain_template_takes_one_caption_and_tells_of_the_rest_before_the_first_step(
    maker: Maker, write: Write
) -> None:
    data = read(write(rows("a", "b")), None)
    with pytest.raises(RecordError, match=r"2 bad records: .*record 1, line 1: a caption to train on has 1 turns"):
        Examples(data, replace(maker, template=template("plain"))).fitting()


def test_a_system_prompt_of_its_own_is_used(maker: Maker) -> None:
    record = record_of({"conversations": [{"from": "system", "value": "Be brief."}, *SAID]}, 1, "")
    assert spell(pieces(maker, record)).startswith("Be brief. USER: Hi ASSISTANT: Ho")


def pieces(maker: Maker, record: Record) -> list[Piece]:
    return maker.template.training(record.turns, record.system)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_long_records_are_refused_together_or_left_out_and_counted(
    maker: Maker, write: Write, num_workers: int
) -> None:
    lines = rows(*("short" if i % 10 else "long " * 200 for i in range(2500)))
    examples = Examples(read(write("\n".join(map(json.dumps, lines))), None), maker)
    with pytest.raises(
        RecordError, match=r"250 bad records: .*record 1, line 1: \d+ tokens, the limit.*; and 240 more"
    ):
        examples.fitting(num_workers=num_workers)
    left = examples.fitting(leave_out=True, num_workers=num_workers)
    assert len(left) == 2250
    assert len(left.dataset.left_out) == 250
    assert "record 11, line 11: " in left.dataset.left_out[1]
    assert left.dataset[0].id == "2"


def test_a_dataset_of_long_records_alone_is_refused(maker: Maker, write: Write) -> None:
    examples = Examples(read(write(rows("a")), None), replace(maker, max_tokens=3))
    with pytest.raises(RecordError, match="1 bad records"):
        examples.fitting(leave_out=True)


def test_a_batch_mixes_pictures_and_text(maker: Maker, write: Write) -> None:
    shown = {
        "conversations": [{"from": "human", "value": "<image>\n<image>"}, SAID[1]],
        "image": ["red.png", "coco/blue.png"],
    }
    examples = Examples(read(write([*rows("a"), shown]), maker.images), maker)
    batch = examples.batch([1, 0])
    assert batch.crops.shape == (2, 28, 28, 3)
    assert batch.lengths.tolist() == [len(examples[1].tokens), len(examples[0].tokens)]


def test_examples_travel_to_another_process(maker: Maker, write: Write) -> None:
    examples = Examples(read(write(rows("a", "é")), None), maker)
    copy = pickle.loads(pickle.dumps(examples))
    assert copy.batch([0, 1]).tokens.tolist() == examples.batch([0, 1]).tokens.tolist()
