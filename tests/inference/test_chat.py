"""Conversations with the embedded model."""

import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spine import EMBEDDED, answer_of, recorded

from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.errors import LimitError, UsageError
from mlx_llava.images.image import Image
from mlx_llava.inference import generate
from mlx_llava.inference.answer_text import StopText
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.sampling import CacheOptions, Sampling, Token
from mlx_llava.models.llama import Llama
from mlx_llava.models.llava import Llava

EXAMPLES = EMBEDDED / "examples"
COUNT, COLOR, DESCRIBE = "How many things are there?", "What color is the circle?", "Describe the picture."
RED = answer_of("one_shape.png", COLOR)["answer"]


def image(name: str) -> Image:
    return Image.open(EXAMPLES / name, name, "training")


def say(chat: Chat, *arguments: Any) -> str:
    return "".join(piece.text for piece in chat.ask(*arguments))


@pytest.mark.parametrize("record", recorded(), ids=lambda r: f"{r['image']}-{r['kind']}")
def test_answers_are_those_of_transformers(embedded: Checkpoint, record: dict[str, Any]) -> None:
    chat, images = Chat(embedded), [image(record["image"])]
    for turn in record["turns"]:
        assert say(chat, turn["question"], images) == turn["answer"]
        assert [token.id for token in chat.answer.tokens] == turn["output_ids"]
        assert len(chat.answer.prompt_ids) == turn["prompt_tokens"]
        images = []


def test_a_second_question_prefills_only_what_is_new(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    say(chat, COUNT, [image("one_shape.png")])
    first = chat.answer
    assert first.prefilled_tokens == len(first.prompt_ids) == answer_of("one_shape.png", COUNT)["prompt_tokens"]
    say(chat, COLOR)
    second = chat.answer
    assert second.prompt_ids[: len(first.prompt_ids)] == first.prompt_ids
    assert second.prefilled_tokens == len(second.prompt_ids) - len(first.prompt_ids) - len(first.tokens)


def test_a_picture_is_encoded_once_in_a_conversation(embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    encode, encoded = Llava.vision_states, []
    monkeypatch.setattr(Llava, "vision_states", lambda model, crops: encoded.append(len(crops)) or encode(model, crops))
    chat = Chat(embedded)
    say(chat, COUNT, [image("one_shape.png")])
    say(chat, "And here?", [image("one_shape.png")])  # opened again, equal pixels
    say(chat, "And here?", [image("three_shapes.png")])
    assert encoded == [1, 1]


@pytest.mark.parametrize("options", [CacheOptions(), CacheOptions(bits=8), CacheOptions(max_size=64)])
def test_an_error_in_the_middle_leaves_no_stray_token(
    embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch, options: CacheOptions
) -> None:
    shown, calls = [image("three_shapes.png")], 0
    decode = Llama.decode

    def failing(model: Llama, *arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        states = decode(model, *arguments, **named)
        if calls == 4:
            raise RuntimeError("in the middle")
        return states

    chat = Chat(embedded, cache=options)
    with monkeypatch.context() as patch:
        patch.setattr(Llama, "decode", failing)
        with pytest.raises(RuntimeError):
            say(chat, DESCRIBE, shown)
    fresh = Chat(embedded, cache=options)
    fresh.turns, fresh.images = chat.turns[:], chat.images
    question = (COUNT, () if chat.turns else shown)
    assert say(chat, *question) == say(fresh, *question)


def cancel_at(k: int) -> Callable[[], bool]:
    """Returns true from the k-th call on."""
    calls = itertools.count(1)
    return lambda: next(calls) >= k


def cancelled_at_every_check(chat: Callable[[], Chat], *question: Any) -> Iterator[Chat]:
    """Chats cancelled at the first check, at the second, and so on until a token comes before."""
    for k in itertools.count(1):
        asked = chat()
        turns = asked.turns[:]
        if say(asked, *question, Sampling(), 0, (), cancel_at(k)):
            assert asked.answer.finish == "cancelled"
            return
        assert (asked.answer.finish, asked.answer.tokens, asked.turns) == ("cancelled", [], turns)
        yield asked


def ids_of(chat: Chat, *question: Any) -> list[int]:
    say(chat, *question)
    return [token.id for token in chat.answer.tokens]


@pytest.mark.parametrize("options", [CacheOptions(), CacheOptions(bits=8), CacheOptions(max_size=64)])
def test_a_question_cancelled_during_prefill_leaves_no_trace(
    embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch, options: CacheOptions
) -> None:
    monkeypatch.setattr(generate, "PREFILL_CPU", 32)
    monkeypatch.setattr(generate, "PREFILL", 32)
    shown = [image("three_shapes.png"), image("one_shape.png")]
    expected = ids_of(Chat(embedded, cache=options), DESCRIBE, shown)
    cancelled = list(cancelled_at_every_check(lambda: Chat(embedded, cache=options), DESCRIBE, shown))
    blocks = 2 * (len(embedded.model.vision_tower.encoder.layers) - 1)  # two pictures; LLaVA needs all but the last
    chunks = (len(cancelled[0].answer.prompt_ids) - 2) // 32 + 1  # the last position belongs to none
    blocks += chunks * len(embedded.model.language_model.layers)
    assert len(cancelled) == blocks + 1  # and once before the first token
    for chat in cancelled:
        assert ids_of(chat, DESCRIBE, shown) == expected


def test_a_cancelled_question_costs_no_position_cached_before_it(
    embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generate, "PREFILL_CPU", 32)
    monkeypatch.setattr(generate, "PREFILL", 32)
    first, second = [image("three_shapes.png")], [image("one_shape.png")]

    def asked_once() -> Chat:
        chat = Chat(embedded)
        say(chat, COUNT, first)
        return chat

    never = asked_once()
    expected = ids_of(never, COLOR, second)
    for chat in cancelled_at_every_check(asked_once, DESCRIBE, second):
        assert ids_of(chat, COLOR, second) == expected
        assert chat.answer.prefilled_tokens <= never.answer.prefilled_tokens
        assert all(
            mx.array_equal(rows, never.prompter._features[name]) for name, rows in chat.prompter._features.items()
        )


def test_a_cancelled_answer_ends_after_its_token(embedded: Checkpoint) -> None:
    chat, looks = Chat(embedded), []
    for _ in chat.ask(DESCRIBE, (), cancelled=lambda: len(looks) > 2):
        looks.append(len(chat.answer.tokens))
    assert (looks, chat.answer.finish, chat.turns[-1].answer) == ([1, 2, 3], "cancelled", chat.answer.text)


def test_two_pictures_of_one_size_are_told_apart_by_the_cache(embedded: Checkpoint) -> None:
    answers = []
    for names in (["one_shape.png", "three_shapes.png"], ["three_shapes.png"]):
        chat = Chat(embedded)
        for name in names:
            chat.turns, chat.images = [], []  # a new conversation on the kept cache
            answers.append(say(chat, DESCRIBE, [image(name)]))
    assert answers[1] == answers[2] != answers[0]


def test_packed_keys_and_values_give_the_same_answer(embedded: Checkpoint) -> None:
    plain, chat = Chat(embedded), Chat(embedded, cache=CacheOptions(bits=8))
    say(plain, COLOR, [image("one_shape.png")])
    assert say(chat, COLOR, [image("one_shape.png")]) == RED
    assert say(chat, COUNT) == say(plain, COUNT)


def test_a_bounded_cache_holds_no_more_than_it_may(embedded: Checkpoint) -> None:
    chat = Chat(embedded, cache=CacheOptions(max_size=64))
    say(chat, DESCRIBE, [image("three_shapes.png")])
    assert {layer.keys.shape[2] for layer in chat._cache.layers} == {64}
    say(chat, COUNT)
    assert chat.answer.prefilled_tokens < 64  # it goes on from where it stands
    chat.turns.pop()
    say(chat, COLOR)
    assert chat.answer.prefilled_tokens == len(chat.answer.prompt_ids)  # what was forgotten cannot be taken back


def test_a_cache_is_bounded_or_packed_but_not_both(embedded: Checkpoint) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        Chat(embedded, cache=CacheOptions(max_size=64, bits=8))


def test_an_answer_goes_on_from_any_of_its_tokens_to_the_same_end(embedded: Checkpoint) -> None:
    chat, images = Chat(embedded), [image("two_shapes_wide.png")]
    text = say(chat, DESCRIBE, images)
    ids, finish = [token.id for token in chat.answer.tokens], chat.answer.finish
    for count in (1, 3, len(ids) - 1, len(ids)):
        chat.turns, chat.images = [], []
        pieces = list(chat.ask(DESCRIBE, images, prefix=ids[:count]))
        assert ("".join(piece.text for piece in pieces), chat.answer.finish) == (text, finish)
        assert [token.id for token in chat.answer.tokens] == ids
        assert chat.answer.prefilled_tokens == 1  # the rest stands in the cache


def test_an_answer_goes_on_from_another_token(embedded: Checkpoint) -> None:
    chat, images = Chat(embedded), [image("two_shapes_wide.png")]
    first = [*chat.ask(DESCRIBE, images, Sampling(), 2)]
    prefix = [first[0].token.id, first[1].token.top[1][0]]
    chat.turns, chat.images = [], []
    say(chat, DESCRIBE, images, Sampling(max_tokens=5), 0, prefix)
    after = [token.id for token in chat.answer.tokens]
    assert (after[:2], len(after) <= 7) == (prefix, True)
    fresh = Chat(embedded)
    say(fresh, DESCRIBE, images, Sampling(max_tokens=5), 0, prefix)
    assert [token.id for token in fresh.answer.tokens] == after


def test_a_closed_answer_stays_as_far_as_it_got(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    pieces = chat.ask(DESCRIBE, [image("one_shape.png")])
    said = next(pieces).text + next(pieces).text
    pieces.close()
    assert chat.answer.finish == "cancelled"
    assert chat.turns[-1].answer == chat.answer.text == said
    kept = say(chat, COLOR)
    fresh = Chat(embedded)
    fresh.turns, fresh.images = chat.turns[:1], chat.images
    assert say(fresh, COLOR) == kept


def test_an_answer_ends_at_max_tokens(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    say(chat, DESCRIBE, [image("one_shape.png")], Sampling(max_tokens=3))
    assert (chat.answer.finish, len(chat.answer.tokens)) == ("length", 3)


def test_a_prompt_beyond_the_context_is_refused_before_it_is_computed(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    with pytest.raises(LimitError, match=r"the prompt is \d+ tokens, the limit 512"):
        next(chat.ask("red " * 500))
    assert not chat.turns


def test_an_answer_never_leaves_the_context(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    room = embedded.config.text.max_position_embeddings
    say(chat, "red " * 440, (), Sampling(max_tokens=10_000, temperature=50.0, seed=1))
    assert len(chat.answer.prompt_ids) + len(chat.answer.tokens) <= room


def test_equal_seeds_give_equal_answers(embedded: Checkpoint) -> None:
    def answer(seed: int) -> str:
        shown = [image("three_shapes.png")]
        return say(Chat(embedded), DESCRIBE, shown, Sampling(temperature=5.0, max_tokens=20, seed=seed))

    assert answer(1) == answer(1) != answer(2)


def test_choosing_among_more_tokens_than_there_are_is_choosing_among_all(embedded: Checkpoint) -> None:
    def answer(top_k: int) -> str:
        return say(Chat(embedded), "red", (), Sampling(temperature=9.0, top_k=top_k, max_tokens=9, seed=1))

    assert answer(10_000) == answer(embedded.config.text.vocab_size) == answer(0)


def test_a_penalty_sees_the_same_tokens_with_and_without_a_kept_cache(embedded: Checkpoint) -> None:
    shown, strong = [image("three_shapes.png")], Sampling(repetition_penalty=3.0, max_tokens=12)
    kept = Chat(embedded)
    say(kept, COUNT, shown)
    fresh = Chat(embedded)
    fresh.turns, fresh.images = kept.turns[:], kept.images
    assert say(kept, "Why?", (), strong) == say(fresh, "Why?", (), strong)
    assert kept.answer.prefilled_tokens < 20 < fresh.answer.prefilled_tokens  # fewer than the penalty looks at


def test_top_alternatives_are_the_likeliest_tokens(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    list(chat.ask(COLOR, [image("one_shape.png")], Sampling(), 5))
    for token in chat.answer.tokens:
        likeliest, logprobs = zip(*token.top, strict=True)
        assert (likeliest[0], logprobs[0]) == (token.id, token.logprob)  # greedy
        assert list(logprobs) == sorted(logprobs, reverse=True)


def test_a_question_can_be_about_text_alone(embedded: Checkpoint) -> None:
    chat = Chat(embedded)
    say(chat, COLOR)
    assert chat.answer.image_tokens == 0


def test_a_system_prompt_replaces_that_of_the_template(embedded: Checkpoint) -> None:
    chat = Chat(embedded, system="Be brief.")
    say(chat, "red", (), Sampling(max_tokens=1))
    assert embedded.tokenizer.decode(chat.answer.prompt_ids) == "Be brief. USER: red ASSISTANT:"


def test_an_unknown_template_is_refused_with_the_known_ones(embedded: Checkpoint) -> None:
    with pytest.raises(UsageError, match="vicuna_v1"):
        Chat(embedded, template="nonsense")


def test_a_chat_lives_on_the_thread_that_loaded_its_model(embedded: Checkpoint) -> None:
    answers = []

    def work() -> None:
        checkpoint = load(embedded.folder)
        answers.append(say(Chat(checkpoint), COLOR, [image("one_shape.png")]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert answers == [RED]


def test_a_loaded_model_answers_on_another_thread(embedded: Checkpoint) -> None:
    chat, answers = Chat(embedded), []
    shown = [image("one_shape.png")]
    thread = threading.Thread(target=lambda: answers.append(say(chat, COLOR, shown)))
    thread.start()
    thread.join()
    assert answers == [RED]  # nothing of the model was left lazy


@given(st.text("ab#"), st.integers(1, 5))
def test_stop_text_does_not_depend_on_how_the_text_arrives(text: str, size: int) -> None:
    stop = StopText(("###", "ab#"))
    out = ""
    for start in range(0, len(text), size):
        out += stop.add(text[start : start + size])
        if stop.reached:
            break
    else:
        out += stop.held
    cuts = [at for at in (text.find("###"), text.find("ab#")) if at >= 0]
    assert out == text[: min(cuts, default=len(text))]


def test_a_template_s_stop_text_ends_an_answer(embedded: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = embedded.tokenizer._at_start.encode("red circle###Human").ids
    tokens = [Token(n) for n in ids]
    monkeypatch.setattr(generate, "stream", lambda *_: (token for token in tokens))
    chat = Chat(embedded, template="llava_v0")
    assert say(chat, "What is this?") == "red circle"
    assert chat.answer.finish == "stop"
