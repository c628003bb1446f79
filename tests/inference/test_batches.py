"""Answers of a batch are those of each question alone."""

from collections.abc import Iterator
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image as PILImage
from spine import EMBEDDED

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.errors import ImageError, LlavaError, PromptError
from mlx_llava.images.image import Image
from mlx_llava.inference.batches import Question, Reply, answers
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling
from mlx_llava.models.llava import Llava

ONE, TWO, THREE = (EMBEDDED / "examples" / f"{name}.png" for name in ("one_shape", "two_shapes_wide", "three_shapes"))
COLOR, DESCRIBE = "What color is the circle?", "Describe the picture."
SAMPLING = Sampling(max_tokens=24)


def test_a_batch_answers_as_each_question_alone(embedded: Checkpoint, tmp_path: Path) -> None:
    PILImage.open(ONE).resize((31, 90)).save(tmp_path / "tall.png")
    asked = [
        (COLOR, [ONE]),
        (COLOR, [THREE]),
        (COLOR, [tmp_path / "tall.png"]),
        (COLOR, [ONE]),
        (DESCRIBE, [TWO]),
        (COLOR, []),
        ("What differs?", [ONE, THREE]),
    ]
    questions = [Question(text, lambda paths=paths: [Image.open(path) for path in paths]) for text, paths in asked]
    for size in (2, 16):
        replies = list(answers(Prompter(embedded), questions, SAMPLING, size))
        for (text, paths), reply in zip(asked, replies, strict=True):
            chat = Chat(embedded)
            assert "".join(piece.text for piece in chat.ask(text, paths, SAMPLING)) == chat.answer.text
            assert isinstance(reply, Reply)
            assert [token.id for token in reply.tokens] == [token.id for token in chat.answer.tokens]
            assert (reply.text, reply.finish) == (chat.answer.text, chat.answer.finish)


def test_a_distinct_image_goes_through_the_tower_once(
    embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    encoded: list[int] = []
    states = Llava.vision_states

    def counted(model: Llava, crops: np.ndarray) -> Iterator[mx.array]:
        encoded.append(len(crops))
        return states(model, crops)

    monkeypatch.setattr(Llava, "vision_states", counted)
    (tmp_path / "copy.png").write_bytes(ONE.read_bytes())
    paths = [ONE, TWO, tmp_path / "copy.png", THREE, ONE, TWO]
    questions = [Question(COLOR, lambda path=path: [Image.open(path)]) for path in paths]
    list(answers(Prompter(embedded), questions, Sampling(max_tokens=1), 3))
    assert encoded == [2, 1]


def test_features_of_the_images_used_last_are_kept(embedded: Checkpoint) -> None:
    prompter, images = Prompter(embedded), [Image.open(path) for path in (ONE, TWO, THREE)]
    prompter.encode_images(images)
    prompter.encode_images(images[:1])
    one = prompter.features(images[0])
    prompter.trim_features(2 * one.nbytes)
    assert list(prompter._features) == [images[2].identity, images[0].identity]


def test_a_question_that_fails_leaves_the_others_alone(embedded: Checkpoint, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(ONE.read_bytes()[:200])
    asked = [(COLOR, tmp_path / "cut.png"), (COLOR, ONE), (" \n", ONE), ("red " * 600, ONE), (COLOR, tmp_path / "no")]
    questions = [Question(text, lambda path=path: [Image.open(path)]) for text, path in asked]
    cut, good, blank, long, missing = answers(Prompter(embedded), questions, SAMPLING)
    assert isinstance(good, Reply)
    problems = [error.problem for error in (cut, blank, long, missing) if isinstance(error, LlavaError)]
    assert [type(error) for error in (cut, blank, missing)] == [ImageError, PromptError, ImageError]
    for problem, words in zip(problems, ("cut.png", "blank", "the limit 512", "no such file"), strict=True):
        assert words in problem


def test_no_questions_have_no_answers(embedded: Checkpoint) -> None:
    assert list(answers(Prompter(embedded), [], SAMPLING)) == []
