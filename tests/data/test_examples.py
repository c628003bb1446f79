"""Examples: whole, exact, or refused by name."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.examples import Examples
from mlx_llava.data.reading import read
from mlx_llava.data.records import Record, record_of
from mlx_llava.errors import ImageError, RecordError
from mlx_llava.images.pixels import crop, open_image
from mlx_llava.prompts.templates import IMAGE, Piece, Turn, spell, template

Write = Callable[[Any], Path]
CAT = Record("cat", (Turn((IMAGE, "\nWhat?"), 0, "red"), Turn(("Sure?",), 0, "yes")), ("red.png",))
SAID = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]


def rows(*answers: str) -> list[dict[str, Any]]:
    return [{"conversations": [SAID[0], {"from": "gpt", "value": answer}]} for answer in answers]


def test_every_answer_and_its_end_is_trained_and_nothing_else(builder: ExampleBuilder) -> None:
    example = builder.example(CAT)
    trained, others = ([*example.tokens[mask]] for mask in (example.label_mask, ~example.label_mask))
    assert builder.tokenizer.decode(trained).split() == ["red", "yes"]
    assert trained.count(builder.tokenizer.eos_id) == 2
    assert builder.tokenizer.eos_id not in others
    assert "red" not in builder.tokenizer.decode(others)


def test_images_are_decoded_as_llava_was_trained(builder: ExampleBuilder, images: Path) -> None:
    expected = crop(open_image(images / "red.png", "training"), builder.image)
    assert np.array_equal(builder.example(CAT).crops, expected[None])


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
def test_images_move_to_the_front_only_if_asked(
    builder: ExampleBuilder, question: tuple[Any, ...], moved: tuple[Any, ...]
) -> None:
    names = ("red.png",) * question.count(IMAGE)

    def tokens(builder: ExampleBuilder, parts: tuple[Any, ...]) -> list[int]:
        return builder.example(Record("a", (Turn(parts, 0, "b"),), names)).tokens.tolist()

    assert tokens(replace(builder, images_first=True), question) == tokens(builder, moved)
    assert (tokens(builder, question) == tokens(builder, moved)) == (
        "".join(map(text, question)) == "".join(map(text, moved))
    )


def text(part: Any) -> str:
    return part if isinstance(part, str) else part.text


def test_tokens_are_counted_without_opening_an_image(builder: ExampleBuilder) -> None:
    there, gone = CAT, replace(CAT, images=("gone.png",))
    assert builder.num_tokens(gone) == len(builder.example(there).tokens)


def test_a_record_at_the_limit_fits_and_one_above_is_refused_and_never_cut(builder: ExampleBuilder) -> None:
    tokens = builder.num_tokens(CAT)
    assert len(replace(builder, max_tokens=tokens).example(CAT).tokens) == tokens
    short = replace(builder, max_tokens=tokens - 1)
    with pytest.raises(RecordError, match=f"a record: {tokens} tokens, the limit is {tokens - 1}"):
        short.example(CAT)
    assert short.fault(CAT) == (f"{tokens} tokens, the limit is {tokens - 1}", "Allow more tokens with --max-tokens.")


@pytest.mark.parametrize("words", ["cat", "ﷺ ", "🙂", "a b", "\n\t", "</s><image>", "▁"])
@pytest.mark.parametrize("key", ["v1", "v0", "mistral_instruct", "chatml_direct"])
def test_a_record_that_is_let_through_uncounted_is_never_too_long(
    builder: ExampleBuilder, key: str, words: str
) -> None:
    builder = replace(builder, template=template(key))
    record = Record("a", (Turn((IMAGE, words * 5), 0, words * 9),) * 2, ("red.png",) * 2)
    tokens = builder.num_tokens(record)
    assert [replace(builder, max_tokens=n).fault(record) is None for n in (tokens - 1, tokens)] == [False, True]


def test_a_missing_image_is_reported_with_its_record(builder: ExampleBuilder) -> None:
    with pytest.raises(ImageError, match=r"(?s)train.json: record 4: .*gone\.png: no such file"):
        builder.example(replace(CAT, images=("gone.png",), where="train.json: record 4"))


def test_the_plain_template_takes_one_caption_and_reports_other_records_before_the_first_step(
    builder: ExampleBuilder, write: Write
) -> None:
    with pytest.raises(RecordError) as raised:
        read(write(rows("a", "b")), None, builder=replace(builder, template=template("plain")))
    assert raised.value.problem.endswith(
        "2 bad records: record 1, line 1: 1 turn and no image, and the plain template takes one of each (also record 2)"
    )
    assert raised.value.advice == "Give one image with one caption per record, or name another --template."


def test_a_system_prompt_of_its_own_is_used(builder: ExampleBuilder) -> None:
    record = record_of({"conversations": [{"from": "system", "value": "Be brief."}, *SAID]}, 1, "")
    assert spell(pieces(builder, record)).startswith("Be brief. USER: Hi ASSISTANT: Ho")


def pieces(builder: ExampleBuilder, record: Record) -> list[Piece]:
    return builder.template.training(record.turns, record.system)


def test_a_batch_mixes_images_and_text(builder: ExampleBuilder, write: Write) -> None:
    visual = {
        "conversations": [{"from": "human", "value": "<image>\n<image>"}, SAID[1]],
        "image": ["red.png", "coco/blue.png"],
    }
    examples = Examples(read(write([*rows("a"), visual]), builder.images), builder)
    batch = examples.batch([1, 0])
    assert batch.crops.shape == (2, 28, 28, 3)
    assert batch.lengths.tolist() == [len(builder.example(examples.dataset[index]).tokens) for index in (1, 0)]


def test_examples_travel_to_another_process(builder: ExampleBuilder, write: Write) -> None:
    examples = Examples(read(write(rows("a", "é")), None), builder)
    copy = pickle.loads(pickle.dumps(examples))
    assert copy.batch([0, 1]).tokens.tolist() == examples.batch([0, 1]).tokens.tolist()
