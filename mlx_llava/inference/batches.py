"""Answers many questions in batches. Files and their formats are the caller's.

While the model answers one batch, threads open the images of the next. Each distinct image goes through the vision
tower once, as long as its features are in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NamedTuple

from mlx_llava.errors import LlavaError, PromptError
from mlx_llava.images.image import Image
from mlx_llava.inference import generate
from mlx_llava.inference.answer_text import AnswerText
from mlx_llava.inference.cache import cache_keys
from mlx_llava.inference.constraint import Constraint, incomplete
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.options import BATCH_SIZE
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Finish, Sampling, Token
from mlx_llava.program.run import log
from mlx_llava.prompts.templates import Turn

SOME_FAILED = 6  # exit code
OPENERS = 2  # threads that open images: one decodes while the other waits for a disk or a server
FEATURE_BYTES = 1 << 28  # of features that are kept for later questions: some 50 images of a 7B model


@dataclass(frozen=True)
class Question:
    """A question, and how to open its images."""

    text: str
    open_images: Callable[[], Sequence[Image]] = field(default=tuple)
    """Called on a thread; raises LlavaError for an image that cannot be read."""
    constraint: Constraint | None = None


class Reply(NamedTuple):
    """The answer to a question of a batch."""

    text: str
    finish: Finish
    tokens: Sequence[Token]


Outcome = Reply | LlavaError
Opened = Sequence[Image] | LlavaError


def answer_all(
    prompter: Prompter,
    questions: Sequence[Question],
    sampling: Sampling,
    batch_size: int,
    record: Callable[[int, Outcome], None],
) -> int:
    """Answer the questions, with progress on stderr; returns the exit code.

    Args:
        record: receives the number of each question, from 0, and its outcome.
    """
    failed, total = 0, len(questions)
    for number, outcome in enumerate(answers(prompter, questions, sampling, batch_size)):
        record(number, outcome)
        failed += isinstance(outcome, LlavaError)
        if (number + 1) % batch_size == 0 or number + 1 == total:
            log(f"{number + 1} of {total} done" + (f", {failed} failed" if failed else ""))
    return SOME_FAILED if failed else 0


def answers(
    prompter: Prompter, questions: Sequence[Question], sampling: Sampling, batch_size: int = BATCH_SIZE
) -> Iterator[Outcome]:
    """A reply or an error for each question in order; those of a batch come together."""
    batches = [questions[start : start + batch_size] for start in range(0, len(questions), batch_size)]
    threads = ThreadPoolExecutor(OPENERS)

    def start_opening(batch: Sequence[Question]) -> list[Future[Opened]]:
        return [threads.submit(_open, prompter, question) for question in batch]

    try:
        ahead = start_opening(batches[0] if batches else ())
        for batch, after in zip(batches, [*batches[1:], ()], strict=False):
            opened = [future.result() for future in ahead]
            ahead = start_opening(after)
            yield from _answer(prompter, batch, opened, sampling)
            prompter.trim_features(FEATURE_BYTES)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _open(prompter: Prompter, question: Question) -> Opened:
    """The images of a question, decoded; an error is returned, not raised."""
    try:
        images = question.open_images()
        for image in images:
            image.crop(prompter.checkpoint.config.image)
        return images
    except LlavaError as error:
        return error


def _answer(
    prompter: Prompter, questions: Sequence[Question], opened: Sequence[Opened], sampling: Sampling
) -> list[Outcome]:
    prompter.encode_images([image for images in opened if not isinstance(images, LlavaError) for image in images])
    prepared = [_prepare(prompter, *pair, sampling) for pair in zip(questions, opened, strict=True)]
    prompts = [prompt for prompt in prepared if isinstance(prompt, Prompt)]
    model = prompter.checkpoint.model.language_model
    tokens = iter(generate.batch(model, prompts, sampling, prompter.stop_ids) if prompts else ())
    return [_outcome(prompter, prompt, next(tokens)) if isinstance(prompt, Prompt) else prompt for prompt in prepared]


def _prepare(prompter: Prompter, question: Question, images: Opened, sampling: Sampling) -> Prompt | LlavaError:
    if isinstance(images, LlavaError):
        return images
    try:
        if not question.text.strip():
            raise PromptError("the question is blank", "Ask something.")
        example = prompter.encode([Turn(question.text, len(images))], images)
        room = prompter.room(example, sampling.max_tokens)
        matcher = None if question.constraint is None else question.constraint.start(prompter.vocabulary)
    except LlavaError as error:
        return error
    return Prompt(example.tokens.tolist(), prompter.embed(example, images), room, matcher, cache_keys(example))


def _outcome(prompter: Prompter, prompt: Prompt, tokens: Sequence[Token]) -> Outcome:
    text, answer = "", AnswerText(prompter, len(tokens), prompt.matcher)
    for token in tokens:
        text += answer.add(token.id)
        if answer.finish == "stop":  # a stop text does not end generation in a batch
            break
    if prompt.matcher is not None and answer.finish == "length":
        return incomplete(len(tokens))
    return Reply(text, answer.finish, tokens)
