"""Where an answer looked, with the embedded model; `parity/test_looking.py` has the numbers."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from lessons import adapted, tiny
from spine import EMBEDDED, prompts

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.inference.attention import attention, attention_maps
from mlx_llava.inference.chat import Chat, Image
from mlx_llava.inference.generate import CancelledError
from mlx_llava.inputs import collate
from mlx_llava.models.llava import Llava
from mlx_llava.prompts.templates import Turn
from mlx_llava.resolve import open_model

QUESTION = "Describe the picture."


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """The embedded model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLX_LLAVA_HOME", str(tmp_path_factory.mktemp("home")))
        return open_model(None)


def image(checkpoint: Checkpoint, name: str = "one_shape.png") -> Image:
    return Image.open(EMBEDDED / "examples" / name, name, checkpoint.config.image, "display")


def asked(checkpoint: Checkpoint) -> tuple[Chat, str]:
    chat = Chat(checkpoint)
    return chat, "".join(piece.text for piece in chat.ask(QUESTION, [image(checkpoint)]))


def test_looking_changes_no_later_answer_and_no_kept_cache(checkpoint: Checkpoint) -> None:
    (looked_at, first), (other, _) = asked(checkpoint), asked(checkpoint)
    maps = attention_maps(looked_at, [Turn(QUESTION, 1, first)], [image(checkpoint)])
    assert maps.as_said
    assert checkpoint.tokenizer.decode(maps.ids) == first
    for chat in (looked_at, other):
        list(chat.ask("How many circles are there?"))
    assert looked_at.answer.tokens == other.answer.tokens
    assert looked_at.answer.prefilled_tokens == other.answer.prefilled_tokens


def test_an_answer_that_is_read_anew_looks_where_it_looked_when_it_was_said(checkpoint: Checkpoint) -> None:
    chat, answer = asked(checkpoint)
    turns = [Turn(QUESTION, 1, answer)]
    said = attention_maps(chat, turns, chat.images)
    anew = attention_maps(Chat(checkpoint), turns, chat.images)
    assert not anew.as_said
    text = checkpoint.tokenizer.decode
    assert text(anew.ids) == text(said.ids)
    if anew.ids == said.ids:  # a model may spell its answer otherwise than the tokenizer would
        np.testing.assert_array_equal(anew.shares, said.shares)


def test_every_picture_has_its_share_and_its_neutral_map(checkpoint: Checkpoint) -> None:
    images = [image(checkpoint), image(checkpoint, "three_shapes.png")]
    maps = attention_maps(Chat(checkpoint), [Turn("What is this?", 1, "red"), Turn("And this?", 1, "blue")], images)
    side = checkpoint.config.vision.image_size // checkpoint.config.vision.patch_size
    assert maps.shares.shape == (len(maps.ids), 2, side, side)
    assert maps.neutral.shape == (2, side, side)
    assert (maps.shares > 0).all()
    assert (maps.shares.sum((1, 2, 3)) < 1).all()
    alone = attention_maps(Chat(checkpoint), [Turn("What is this?", 1, "red")], images[:1])
    np.testing.assert_allclose(alone.neutral[0], maps.neutral[0], rtol=0, atol=1e-7)


def test_nobody_waits_for_a_look_that_was_stopped(checkpoint: Checkpoint) -> None:
    with pytest.raises(CancelledError):
        attention_maps(Chat(checkpoint), [Turn(QUESTION, 1, "red")], [image(checkpoint)], lambda: True)


def packed(model: Llava) -> Llava:
    """The model with packed layers."""
    nn.quantize(model.language_model, group_size=32, bits=8)
    return model


@pytest.mark.parametrize("change", [lambda m: m, packed, adapted, lambda m: adapted(packed(m))])
@pytest.mark.parametrize("case", ["plain", "grouped queries", "mistral, window 8"])
def test_what_a_position_gives_to_all_positions_is_one(case: str, change: Callable[[Llava], Llava]) -> None:
    model = change(tiny(case))
    batch = collate([prompts(16)["one picture"]], 16)
    x = model.embed(mx.array(batch.tokens), mx.array(batch.slots), model.features(model.on_device(batch.crops)))
    shares = attention(model.language_model, x, 5, mx.arange(x.shape[1]))
    np.testing.assert_allclose(np.array(shares.sum(-1)), np.ones(5), rtol=0, atol=1e-6)
    assert not np.array(shares[0, -4:]).any()  # later positions are not seen
    many = attention(model.language_model, mx.tile(x, (1, 4, 1)), 70, mx.arange(4 * x.shape[1]))  # in two blocks
    np.testing.assert_allclose(np.array(many.sum(-1)), np.ones(70), rtol=0, atol=1e-6)


def test_what_ends_an_answer_in_a_template_is_no_token_of_it(embedded: Checkpoint) -> None:
    chat = Chat(embedded, template="llava_v0")
    image = Image.open(EMBEDDED / "examples" / "two_shapes_wide.png", "scene", embedded.config.image, "display")
    said = "".join(piece.text for piece in chat.ask("What color is the square?", [image]))
    assert said
    for answer in (said, "blue"):  # as it was said, and read anew
        maps = attention_maps(chat, [Turn("What color is the square?", 1, answer)], [image])
        assert embedded.tokenizer.decode(maps.ids).strip() == answer.strip()
