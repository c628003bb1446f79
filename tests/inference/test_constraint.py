"""Choices: the answer is exactly one of them, whatever the model and the sampling."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spine import EMBEDDED

from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.errors import LlavaError, PromptError, UsageError
from mlx_llava.images.image import Image
from mlx_llava.inference import generate
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.constraint import Choices, Constraint, Matcher, Vocabulary
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Finish, Sampling
from mlx_llava.prompts.templates import Turn
from mlx_llava.prompts.tokens import Detokenizer

PHOTO = EMBEDDED / "examples" / "one_shape.png"
COLOR = "What color is the circle?"
TEXTS = st.text(st.sampled_from(" aAbn,é火🙂\n"), min_size=1, max_size=6)


@pytest.fixture(scope="module")
def vocabulary(embedded: Checkpoint) -> Vocabulary:
    return Prompter(embedded).vocabulary


def paths(matcher: Matcher, vocabulary: Vocabulary, ids: tuple[int, ...] = ()) -> set[tuple[int, ...]]:
    """Every answer that a matcher allows, without its stop token."""
    done = set()
    for token in matcher.allowed().nonzero()[0].tolist():
        if token in vocabulary.stop_ids:
            done.add(ids)
        else:
            done |= paths(after(vocabulary, (*ids, token)), vocabulary, (*ids, token))
    return done


CHOICES = ("aab", "aa", "é", "a b")


def after(vocabulary: Vocabulary, ids: Sequence[int]) -> Matcher:
    matcher = Choices(CHOICES).start(vocabulary)
    for token in ids:
        matcher.advance(token)
    return matcher


def text_of(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    detokenizer = Detokenizer(vocabulary.tokenizer, drops_first_space=True)
    return "".join(map(detokenizer.add, ids)) + detokenizer.finish()


def test_every_tokenization_of_every_choice_is_allowed_and_nothing_else(vocabulary: Vocabulary) -> None:
    spellings, allowed = vocabulary.spellings, paths(after(vocabulary, ()), vocabulary)
    usable = [n for n, spelling in spellings.items() if any(spelling in f" {text}".encode() for text in CHOICES)]
    every = {ids for length in range(1, 4) for ids in product(usable, repeat=length)}
    exact = {
        ids
        for ids in every
        if b"".join(spellings[n] for n in ids).removeprefix(b" ").decode("utf-8", "replace") in CHOICES
        and not b"".join(spellings[n] for n in ids).startswith(b"  ")
    }
    assert {ids for ids in allowed if len(ids) < 4} == exact
    assert {text_of(vocabulary, ids) for ids in allowed} == set(CHOICES)


@given(st.lists(TEXTS, min_size=1, max_size=5), st.data())
def test_an_answer_is_a_choice_at_any_tokens(vocabulary: Vocabulary, texts: list[str], data: st.DataObject) -> None:
    matcher, ids = Choices(texts).start(vocabulary), []
    while not matcher.finished:
        token = data.draw(st.sampled_from(matcher.allowed().nonzero()[0].tolist()))
        matcher.advance(token)
        if token in vocabulary.stop_ids:
            break
        ids.append(token)
    assert text_of(vocabulary, ids) in texts
    assert set(matcher.allowed().nonzero()[0]) >= vocabulary.stop_ids


@given(st.lists(TEXTS, min_size=1, max_size=5))
def test_every_choice_can_be_reached_by_the_tokens_of_the_tokenizer(vocabulary: Vocabulary, texts: list[str]) -> None:
    tokenizer = vocabulary.tokenizer
    for text in texts:
        for ids in (tokenizer.text_ids(text), tokenizer.text_ids(f" {text}")):
            matcher = Choices(texts).start(vocabulary)
            if text_of(vocabulary, ids) == text:  # a choice that begins with a space needs one more
                for token in ids:
                    matcher.advance(token)
                assert matcher.allowed()[[*vocabulary.stop_ids]].all()


def test_a_longer_choice_stays_open_until_the_model_decides(vocabulary: Vocabulary) -> None:
    matcher = Choices(["no", "none"]).start(vocabulary)
    for token in vocabulary.tokenizer.text_ids("no"):
        matcher.advance(token)
    allowed = matcher.allowed()
    assert allowed[[*vocabulary.stop_ids]].all()
    assert allowed[vocabulary.tokenizer.text_ids("n")].all()
    assert not matcher.finished
    matcher.advance(vocabulary.tokenizer.eos_id)
    assert matcher.finished


def say(chat: Chat, sampling: Sampling, constraint: Constraint, **more: Any) -> str:
    return "".join(piece.text for piece in chat.ask(COLOR, [PHOTO], sampling, constraint=constraint, **more))


SAMPLINGS = [
    Sampling(),
    Sampling(repetition_penalty=1.3),
    Sampling(temperature=1.5, seed=1),
    Sampling(temperature=1e-45, seed=2),
    Sampling(temperature=100.0, top_p=0.5, top_k=3, min_p=0.05, seed=3),
]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_answer_is_a_choice_with_any_sampling(embedded: Checkpoint, sampling: Sampling) -> None:
    choices = ["red", "blue", "bluish", "été"]
    chat = Chat(embedded)
    assert say(chat, sampling, Choices(choices)) in choices
    assert chat.answer.finish == "stop"
    assert chat.answer.tokens[-1].id in chat.prompter.stop_ids


def test_the_likeliest_choice_wins_and_probabilities_are_those_among_the_choices(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    assert say(chat, Sampling(), Choices(["red", "blue", "green"]), num_top=5) == "red"
    first = chat.answer.tokens[0]
    beginnings = {"", "r", "re", "red", "b", "bl", "blue", "g", "green"}
    assert {embedded.tokenizer.piece(token).strip() for token, _ in first.top} <= beginnings
    assert all(math.isfinite(logprob) for _, logprob in first.top)
    assert chat.answer.tokens[-1].top[0][1] == pytest.approx(0, abs=1e-6)  # nothing but the end may follow


def test_rows_of_a_batch_have_their_own_choices_and_answers_as_alone(embedded: Checkpoint) -> None:
    constraints = [Choices(["red", "blue"]), None, Choices(["one", "seven things"]), Choices(["blue", "green"])]
    prompter, image = Prompter(embedded), Image.open(PHOTO)
    example = prompter.encode([Turn(COLOR, 1)], [image])
    matchers = [constraint and constraint.start(prompter.vocabulary) for constraint in constraints]
    ids, embeddings = example.tokens.tolist(), prompter.embed(example, [image])
    rows = generate.batch(
        embedded.model.language_model,
        [Prompt(ids, embeddings, 30, matcher) for matcher in matchers],
        Sampling(),
        prompter.stop_ids,
    )
    for constraint, tokens in zip(constraints, rows, strict=True):
        chat = Chat(embedded)
        pieces = chat.ask(COLOR, [PHOTO], constraint=constraint)
        assert [token.id for token in tokens] == [piece.token.id for piece in pieces]


@pytest.mark.parametrize(("max_tokens", "finish"), [(1, "length"), (2, "length"), (3, "stop"), (4, "stop")])
def test_a_limit_that_cuts_a_choice_is_reported(embedded: Checkpoint, max_tokens: int, finish: Finish) -> None:
    chat = Chat(embedded)
    text = say(chat, Sampling(max_tokens=max_tokens), Choices(["zz"]))
    assert ("zz".startswith(text), chat.answer.finish) == (True, finish)
    assert finish == "length" or text == "zz"


def test_a_forced_prefix_counts_as_part_of_the_choice(embedded: Checkpoint) -> None:
    chat, prefix = Chat(embedded), embedded.tokenizer.text_ids(" bl")
    assert say(chat, Sampling(), Choices(["red", "blue"]), prefix=prefix) == "blue"
    with pytest.raises(PromptError, match="forced prefix"):
        say(chat, Sampling(), Choices(["red", "green"]), prefix=prefix)


def test_stop_texts_of_the_template_do_not_cut_a_choice(embedded: Checkpoint) -> None:
    chat = Chat(embedded, template="chatml_direct")
    assert say(chat, Sampling(), Choices(["a<|im_end|>b"])) == "a<|im_end|>b"


@pytest.mark.parametrize("texts", [[], [""], ["yes", ""], ["\ud800"]])
def test_choices_that_no_answer_can_be_are_refused(texts: list[str]) -> None:
    with pytest.raises(UsageError):
        Choices(texts)


def test_a_choice_without_tokens_is_refused() -> None:
    letters: Any = Mock(spellings={0: b"a", 1: b"b", 2: b""})
    vocabulary = Vocabulary(letters, 4, frozenset({2}))
    assert Choices(["ab", "b"]).start(vocabulary).allowed().tolist() == [True, True, False, False]
    with pytest.raises(PromptError, match="'ac'"):
        Choices(["ab", "ac"]).start(vocabulary)


def test_a_token_that_is_not_allowed_is_an_error(vocabulary: Vocabulary) -> None:
    for token in (vocabulary.tokenizer.bos_id, vocabulary.tokenizer.eos_id, *vocabulary.tokenizer.text_ids("c")):
        with pytest.raises(LlavaError):
            Choices(CHOICES).start(vocabulary).advance(token)
