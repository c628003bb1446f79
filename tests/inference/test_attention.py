"""Where an answer looked, with the embedded model; `parity/test_looking.py` has the numbers."""

from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from lessons import adapted, tiny
from spine import EMBEDDED, prompts

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.images.image import Image
from mlx_llava.inference.attention import AttentionMaps, attention, attention_maps
from mlx_llava.inference.cancel import CancelledError
from mlx_llava.inference.chat import Chat
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


def image(name: str = "one_shape.png") -> Image:
    return Image.open(EMBEDDED / "examples" / name, name)


def asked(checkpoint: Checkpoint) -> tuple[Chat, str]:
    chat = Chat(checkpoint)
    return chat, "".join(piece.text for piece in chat.ask(QUESTION, [image()]))


def maps_of(chat: Chat, turns: list[Turn], images: list[Image], *cancelled: Callable[[], bool]) -> AttentionMaps:
    return attention_maps(chat.prompter, turns, images, chat.answer, *cancelled)


def test_attention_maps_change_no_later_answer_and_no_cache(checkpoint: Checkpoint) -> None:
    (mapped, first), (other, _) = asked(checkpoint), asked(checkpoint)
    maps = maps_of(mapped, [Turn(QUESTION, 1, first)], [image()])
    assert maps.verbatim
    assert checkpoint.tokenizer.decode(maps.ids) == first
    for chat in (mapped, other):
        list(chat.ask("How many circles are there?"))
    assert mapped.answer.tokens == other.answer.tokens
    assert mapped.answer.prefilled_tokens == other.answer.prefilled_tokens


def test_an_answer_tokenized_again_has_the_maps_of_the_generated_one(checkpoint: Checkpoint) -> None:
    chat, answer = asked(checkpoint)
    turns = [Turn(QUESTION, 1, answer)]
    generated = maps_of(chat, turns, chat.images)
    again = maps_of(Chat(checkpoint), turns, chat.images)
    assert not again.verbatim
    text = checkpoint.tokenizer.decode
    assert text(again.ids) == text(generated.ids)
    if again.ids == generated.ids:  # a model may spell its answer otherwise than the tokenizer would
        np.testing.assert_array_equal(again.shares, generated.shares)


def test_every_image_has_its_share_and_its_neutral_map(checkpoint: Checkpoint) -> None:
    images = [image(), image("three_shapes.png")]
    maps = maps_of(Chat(checkpoint), [Turn("What is this?", 1, "red"), Turn("And this?", 1, "blue")], images)
    side = checkpoint.config.vision.image_size // checkpoint.config.vision.patch_size
    assert maps.shares.shape == (len(maps.ids), 2, side, side)
    assert maps.neutral.shape == (2, side, side)
    assert (maps.shares > 0).all()
    assert (maps.shares.sum((1, 2, 3)) < 1).all()
    alone = maps_of(Chat(checkpoint), [Turn("What is this?", 1, "red")], images[:1])
    np.testing.assert_allclose(alone.neutral[0], maps.neutral[0], rtol=0, atol=1e-7)


def test_attention_maps_can_be_cancelled(checkpoint: Checkpoint) -> None:
    with pytest.raises(CancelledError):
        maps_of(Chat(checkpoint), [Turn(QUESTION, 1, "red")], [image()], lambda: True)


def quantized(model: Llava) -> Llava:
    nn.quantize(model.language_model, group_size=32, bits=8)
    return model


@pytest.mark.parametrize("change", [lambda m: m, quantized, adapted, lambda m: adapted(quantized(m))])
@pytest.mark.parametrize("case", ["plain", "grouped queries", "mistral, window 8"])
def test_attention_to_all_positions_sums_to_one(case: str, change: Callable[[Llava], Llava]) -> None:
    model = change(tiny(case))
    batch = collate([prompts(16)["one picture"]])
    x = model.embed(mx.array(batch.tokens), mx.array(batch.slots), model.features(model.vision_states(batch.crops)))
    shares = attention(model.language_model, x, 5, mx.arange(x.shape[1]))
    np.testing.assert_allclose(np.array(shares.sum(-1)), np.ones(5), rtol=0, atol=1e-6)
    assert not np.array(shares[0, -4:]).any()  # later positions are not seen
    many = attention(model.language_model, mx.tile(x, (1, 4, 1)), 70, mx.arange(4 * x.shape[1]))  # in two blocks
    np.testing.assert_allclose(np.array(many.sum(-1)), np.ones(70), rtol=0, atol=1e-6)


def test_the_template_s_end_of_an_answer_has_no_map(embedded: Checkpoint) -> None:
    chat = Chat(embedded, template="llava_v0")
    image = Image.open(EMBEDDED / "examples" / "two_shapes_wide.png", "scene")
    text = "".join(piece.text for piece in chat.ask("What color is the square?", [image]))
    assert text
    for answer in (text, "blue"):  # generated, and tokenized again
        maps = maps_of(chat, [Turn("What color is the square?", 1, answer)], [image])
        assert embedded.tokenizer.decode(maps.ids).strip() == answer.strip()
