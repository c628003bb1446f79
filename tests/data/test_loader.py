"""Batches loaded ahead: in order, by processes that never import MLX and always end with their program."""

import json
import operator
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlx_llava.data.batches import Order, Position
from mlx_llava.data.builder import ExampleBuilder
from mlx_llava.data.examples import Examples
from mlx_llava.data.loader import loader
from mlx_llava.data.reading import read
from mlx_llava.errors import ImageError, LlavaError

Write = Callable[[Any], Path]


class InWorker:
    """An expression over `argument`, evaluated where it is unpickled."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"lambda argument: {self.expression}",)

    def __call__(self, argument: Any) -> Any:
        raise AssertionError("called outside a worker")


def numbered(count: int) -> Iterator[tuple[int, int]]:
    return ((i, -i) for i in range(count))


@pytest.mark.parametrize("num_workers", [0, 1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 20])
def test_results_come_in_order_with_their_names(num_workers: int, count: int) -> None:
    with loader(abs, numbered(count), num_workers) as results:
        assert list(results) == [(i, i) for i in range(count)]


def test_a_worker_never_imports_mlx_and_is_another_process(builder: ExampleBuilder, write: Write) -> None:
    rows = [{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]
    examples = Examples(read(write(rows), None), builder)
    probe = InWorker("(argument.batch([0]), sorted(__import__('sys').modules))[1]")
    with loader(probe, [(0, examples)], 1) as results:
        modules = next(results)[1]
    assert "mlx_llava.data.examples" in modules
    assert {"mlx", "mlx.core", "mlx_lm", "torch"}.isdisjoint(modules)


def test_batches_are_the_same_from_workers_and_from_any_position(builder: ExampleBuilder, write: Write) -> None:
    people = ({"from": "human", "value": "<image>Hi"}, {"from": "gpt", "value": "Ho"})
    rows = [{"conversations": [people[0], people[1]] * 1, "image": "red.png", "id": i} for i in range(7)]
    examples = Examples(read(write(rows), builder.images), builder)
    order = Order(examples.dataset.lengths, batch_size=2)
    with loader(examples.batch, order.jobs(2), 0) as here:
        expected = list(here)
    with loader(examples.batch, order.jobs(2, Position(0, 3)), 2) as there:
        batches = list(there)
    assert [position for position, _ in batches] == [position for position, _ in expected[3:]]
    for (_, batch), (_, same) in zip(batches, expected[3:], strict=True):
        assert np.array_equal(batch.tokens, same.tokens)
        assert np.array_equal(batch.crops, same.crops)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_an_error_comes_at_its_place_with_the_name_of_the_record(
    builder: ExampleBuilder, write: Write, num_workers: int
) -> None:
    conversation = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Ho"}]
    rows = [{"conversations": conversation, "image": name} for name in ("red.png", "coco/blue.png")]
    examples = Examples(read(write("\n".join(map(json.dumps, rows))), builder.images), builder)
    assert builder.images is not None
    (builder.images / "coco" / "blue.png").unlink()
    with loader(examples.batch, [(0, [0]), (1, [1]), (2, [0])], num_workers) as results:
        assert next(results)[0] == 0
        with pytest.raises(ImageError, match=r"record 2, line 2: .*blue\.png: no such file") as raised:
            next(results)
    assert raised.value.advice == "Check the path."


KILL = "__import__('os').kill(__import__('os').getpid(), 9)"


@pytest.mark.parametrize(
    ("make", "jobs", "error", "words"),
    [
        (operator.neg, [(0, 1), (1, "text")], RuntimeError, r"(?s)a data worker failed:.*TypeError: bad operand"),
        (InWorker("(("), [(0, 1)], RuntimeError, "SyntaxError"),
        (InWorker(KILL), numbered(1), LlavaError, "a data worker ended with code -9"),
        (InWorker(KILL), numbered(40), LlavaError, "a data worker ended with code -9"),
    ],
    ids=["raises", "cannot be imported", "dies at once", "dies with jobs waiting"],
)
def test_a_job_that_fails_says_why(make: Any, jobs: Any, error: type[Exception], words: str) -> None:
    with loader(make, jobs, 1) as results, pytest.raises(error, match=words):
        list(results)


def test_what_a_worker_prints_does_not_disturb_its_results() -> None:
    with loader(InWorker("(print('noise'), argument)[1]"), numbered(5), 1) as results:
        assert [value for _, value in results] == [0, -1, -2, -3, -4]


PROGRAM = """
import os, signal, sys, time
from mlx_llava.data.loader import loader
with loader(bytearray, ((i, 1 << 22) for i in range(100)), 2) as results:
    for name, _ in results:
        print(name, flush=True)
        if name == 3:
            {end}
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("break", 0),
        ("raise SystemExit(5)", 5),
        ("os.kill(os.getpid(), signal.SIGINT)", -2),
        ("os.killpg(os.getpgid(0), signal.SIGINT)", -2),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ],
)
def test_no_worker_outlives_its_program(end: str, code: int) -> None:
    # the pipes of stdout and stderr reach their end only when the last process that holds them has ended
    program = [sys.executable, "-c", PROGRAM.format(end=end)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60, start_new_session=True, check=False)
    assert done.returncode == code
    assert done.stdout.split() == ["0", "1", "2", "3"]
