"""The engine's thread, with a scripted worker and with the embedded model."""

import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from scripted import ScriptedWorker
from spine import EMBEDDED, answer_of, conversation_of

from mlx_llava.engine.messages import (
    AnswerFinished,
    AnswerPiece,
    AnswerSettings,
    AnswerStarted,
    Ask,
    Count,
    Counted,
    Crashed,
    Event,
    Exchange,
    Failed,
    Load,
    Loaded,
    Request,
)
from mlx_llava.engine.thread import Engine
from mlx_llava.inference.sampling import Sampling
from mlx_llava.tui.images.attachments import from_file

IMAGE = EMBEDDED / "examples" / "two_shapes_wide.png"
SCENE = from_file(IMAGE).file
SQUARE = "What color is the square?"
TALK = conversation_of(IMAGE.name)
SINGLE = answer_of(IMAGE.name, SQUARE)
ANSWERS = {turn["question"]: turn["answer"] for turn in (SINGLE, *TALK)}


def until(engine: Engine, kind: type[Event]) -> list[Event]:
    """Events up to the first of a kind."""
    events: list[Event] = []
    deadline = time.monotonic() + 60
    while not any(isinstance(event, kind) for event in events):
        assert time.monotonic() < deadline, events
        events += engine.receive()
        time.sleep(0.005)
    return events


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, AnswerPiece))


@pytest.fixture
def running() -> Iterator[Callable[..., Engine]]:
    engines: list[Engine] = []

    def start(make_worker: Callable[[], object]) -> Engine:
        engines.append(Engine(make_worker))  # pyright: ignore[reportArgumentType]
        engines[-1].start()
        return engines[-1]

    yield start
    assert all(engine.end() for engine in engines)


def ask(number: int, *questions: str, images: tuple = (), sampling: Sampling = Sampling(), **settings: Any) -> Ask:
    """A conversation whose earlier answers are those that were recorded."""
    earlier = [Exchange(q, images if n == 0 else (), ANSWERS[q]) for n, q in enumerate(questions[:-1])]
    last = Exchange(questions[-1], () if earlier else images)
    return Ask(number, (*earlier, last), AnswerSettings(sampling=sampling, **settings))


def test_events_come_in_the_order_of_requests(running: Callable[..., Engine]) -> None:
    engine = running(ScriptedWorker)
    engine.send(Load("a"))
    engine.send(ask(1, "What is this?"))
    events = until(engine, AnswerFinished)
    assert [type(event).__name__ for event in events if not isinstance(event, AnswerPiece)] == [
        "Loading",
        "Loaded",
        "AnswerStarted",
        "AnswerFinished",
    ]
    assert text(events) == "It is a **cat**."


def test_a_stopped_answer_ends_at_the_next_token(running: Callable[..., Engine]) -> None:
    worker = ScriptedWorker("one two three four")
    worker.gate.clear()
    engine = running(lambda: worker)
    engine.send(ask(1, "Count."))
    events = until(engine, AnswerPiece)
    engine.stop(1)
    events += until(engine, AnswerFinished)
    assert text(events) == "one"


def test_a_question_stopped_before_its_turn_is_never_answered(running: Callable[..., Engine]) -> None:
    worker = ScriptedWorker("one two three")
    engine = running(lambda: worker)
    engine.stop(7)
    engine.send(ask(7, "Count."))
    engine.send(ask(8, "Count."))
    events = until(engine, AnswerFinished)
    events += until(engine, AnswerFinished) if sum(isinstance(e, AnswerFinished) for e in events) < 2 else []
    assert [event.finish for event in events if isinstance(event, AnswerFinished)] == ["cancelled", "stop"]


def test_a_crash_is_told_and_ends_the_thread(running: Callable[..., Engine]) -> None:
    worker = ScriptedWorker()
    worker.failure = ZeroDivisionError("no reason")
    engine = running(lambda: worker)
    engine.send(Load())
    assert until(engine, Crashed)[-1] == Crashed("ZeroDivisionError: no reason")
    assert worker.closed


def test_a_worker_that_cannot_be_made_is_told_of(running: Callable[..., Engine]) -> None:
    def fail() -> None:
        raise ImportError("no MLX here", name="mlx.core")

    last = until(running(fail), Crashed)[-1]
    assert isinstance(last, Crashed)
    assert last.problem.startswith("MLX cannot be loaded: no MLX here. Run pip install")


def test_the_engine_imports_nothing_heavy() -> None:
    import subprocess

    code = "import sys, mlx_llava.engine.thread; print(sorted({'mlx', 'numpy', 'textual', 'PIL'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.fixture
def model(running: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, home: Path) -> Engine:
    from mlx_llava.engine.worker import ModelWorker

    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
    engine = running(ModelWorker)
    engine.send(Load())
    facts = next(event for event in until(engine, Loaded) if isinstance(event, Loaded)).model
    assert (facts.name, facts.context, facts.patches**2) == ("embedded", 512, facts.image_tokens)
    return engine


def test_the_embedded_model_answers_about_a_scene(model: Engine) -> None:
    model.send(ask(1, SQUARE, images=(SCENE,)))
    assert text(until(model, AnswerFinished)) == ANSWERS[SQUARE]


def test_a_second_question_prefills_only_what_is_new(model: Engine) -> None:
    model.send(ask(1, TALK[0]["question"], images=(SCENE,)))
    until(model, AnswerFinished)
    model.send(ask(2, TALK[0]["question"], TALK[1]["question"], images=(SCENE,)))
    events = until(model, AnswerFinished)
    began = next(event for event in events if isinstance(event, AnswerStarted))
    assert began.prefilled_tokens < 20 < began.prompt_tokens
    assert text(events) == TALK[1]["answer"]


def test_an_answer_stopped_while_it_is_read_says_nothing(
    running: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    from mlx_llava.engine.worker import ModelWorker

    class Impatient(ModelWorker):
        def handle(self, request: Request, cancelled: Callable[[], bool]) -> Iterator[Event]:
            looks = count()
            first = isinstance(request, Ask) and request.number == 1
            return super().handle(request, lambda: cancelled() or (first and next(looks) >= 5))

    monkeypatch.setenv("MLX_LLAVA_HOME", str(home))
    engine = running(Impatient)
    engine.send(Load())
    until(engine, Loaded)
    engine.send(ask(1, SQUARE, images=(SCENE,)))
    (only,) = until(engine, AnswerFinished)
    assert isinstance(only, AnswerFinished)
    assert (only.finish, only.tokens) == ("cancelled", 0)
    engine.send(ask(2, SQUARE, images=(SCENE,)))
    assert text(until(engine, AnswerFinished)) == ANSWERS[SQUARE]


def test_answering_again_prefills_one_token(model: Engine) -> None:
    for number in (1, 2):
        model.send(ask(number, SQUARE, images=(SCENE,)))
        events = until(model, AnswerFinished)
    assert next(event for event in events if isinstance(event, AnswerStarted)).prefilled_tokens == 1
    assert text(events) == ANSWERS[SQUARE]


def test_equal_seeds_give_equal_answers_whatever_came_between(model: Engine) -> None:
    answers = []
    for number, seed in enumerate((1, 2, 1)):
        model.send(
            ask(number, "Describe the image.", images=(SCENE,), sampling=Sampling(12, temperature=5.0, seed=seed))
        )
        answers.append(text(until(model, AnswerFinished)))
    assert answers[0] == answers[2] != answers[1]


def test_tokens_are_counted_by_what_they_show(model: Engine) -> None:
    asked = ask(1, SQUARE, "How many shapes are there?", images=(SCENE,))
    model.send(Count(1, asked.exchanges, asked.answer_settings))
    counted = next(event for event in until(model, Counted) if isinstance(event, Counted))
    model.send(asked)
    began = next(event for event in until(model, AnswerFinished) if isinstance(event, AnswerStarted))
    assert counted.total == began.prompt_tokens
    assert counted.images == began.image_tokens == 64
    assert min(counted.system, counted.history, counted.draft) > 0


def test_tokens_come_with_alternatives_when_asked_for(model: Engine) -> None:
    model.send(ask(1, SQUARE, images=(SCENE,), num_top=5))
    said = [event for event in until(model, AnswerFinished) if isinstance(event, AnswerPiece)]
    assert said[0].token is not None
    assert said[0].others[0] == said[0].token  # greedy
    assert len(said[0].others) == 5


def test_what_is_wrong_with_a_request_leaves_the_engine_alive(model: Engine) -> None:
    model.send(Load("/nowhere/at/all"))
    failed = until(model, Failed)[-1]
    assert isinstance(failed, Failed)
    assert failed.problem == "/nowhere/at/all: no such folder"
    model.send(ask(1, "red " * 600))
    failed = until(model, Failed)[-1]
    assert isinstance(failed, Failed)
    assert "the limit 512" in failed.problem
    model.send(ask(2, SQUARE, images=(SCENE,)))
    assert text(until(model, AnswerFinished)) == ANSWERS[SQUARE]


def test_the_form_of_pictures_can_change_between_questions(model: Engine) -> None:
    for number, fit in enumerate(("crop", "pad", None)):
        model.send(ask(number, SQUARE, images=(SCENE,), fit=fit))
        assert any(isinstance(event, AnswerStarted) for event in until(model, AnswerFinished))
