"""LLaVA's question files: JSON lines in, JSON lines out, answered in batches.

A failing row is recorded with its error and does not stop the others; the next run retries rows without an answer.
The keys are those of LLaVA's llava/eval/model_vqa.py.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_llava.errors import LlavaError, PromptError, UsageError
from mlx_llava.images.image import Image
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference import generate
from mlx_llava.inference.answer_text import AnswerText
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.run import log
from mlx_llava.program.signals import interruptible
from mlx_llava.prompts.templates import Turn

SOME_FAILED = 6  # exit code

Row = dict[str, Any]


@dataclass(frozen=True)
class QuestionFile:
    """The files of one run, and how many questions to answer together."""

    questions: Path
    answers: Path
    image_folder: Path
    decoding: Decoding
    batch_size: int


def waiting_rows(files: QuestionFile) -> list[Row]:
    """The rows that have no answer yet; UsageError for an invalid file."""
    rows = _read_lines(files.questions)
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question_id"), str | int):
            raise UsageError(f"{files.questions}: row {number} has no question_id", "Give every row an id.")
    answers = files.answers
    if answers.exists() and (not answers.is_file() or answers.samefile(files.questions)):
        raise UsageError(f"{answers}: not a file of answers", "Name a new file, or one that an earlier run wrote.")
    earlier = _read_lines(answers, may_be_torn=True) if answers.exists() else []
    # the prompt too: MME asks two questions under one id
    answered = {(row.get("question_id"), row.get("prompt")) for row in earlier if "text" in row}
    waiting = [row for row in rows if (row["question_id"], row.get("text")) not in answered]
    log(f"{len(waiting)} of {len(rows)} questions to answer")
    return waiting


def answer_rows(
    rows: Sequence[Row], files: QuestionFile, new_prompter: Callable[[], Prompter], sampling: Sampling, model_id: str
) -> int:
    """Append an answer or an error for every row; returns the exit code.

    Args:
        new_prompter: called once per batch, so that image features are freed after each.
    """
    failed = 0
    with interruptible(), files.answers.open("a", encoding="utf-8") as out:
        if files.answers.stat().st_size and not files.answers.read_bytes().endswith(b"\n"):
            out.write("\n")  # an earlier run was killed within a line
        for start in range(0, len(rows), files.batch_size):
            for result in _answer(rows[start : start + files.batch_size], files, new_prompter(), sampling):
                failed += "error" in result
                out.write(json.dumps({**result, "model_id": model_id}) + "\n")
            out.flush()
            log(f"{min(start + files.batch_size, len(rows))} of {len(rows)} done")
    if failed:
        log(f"{failed} failed; their errors are in {files.answers}, and the next run retries them")
    return SOME_FAILED if failed else 0


def _answer(rows: Sequence[Row], files: QuestionFile, prompter: Prompter, sampling: Sampling) -> Iterator[Row]:
    """Results of one batch: failing rows first, each group in the order of the rows."""
    ready: list[tuple[Row, Prompt]] = []
    for row in rows:
        try:
            ready.append((row, _prepare(row, files, prompter, sampling)))
        except LlavaError as error:
            log(f"question {row['question_id']}: {error.problem}")
            yield {"question_id": row["question_id"], "error": error.problem}
    if not ready:
        return
    model, prompts = prompter.checkpoint.model.language_model, [prompt for _, prompt in ready]
    answers = generate.batch(model, prompts, sampling, prompter.stop_ids)
    for (row, _), tokens in zip(ready, answers, strict=True):
        text, answer = "", AnswerText(prompter, len(tokens))
        for token in tokens:
            text += answer.add(token.id)
            if answer.finish == "stop":  # a stop text does not end generation in a batch
                break
        yield {
            "question_id": row["question_id"],
            "prompt": row["text"],
            "text": text,
            "metadata": {"finish": answer.finish, "output_tokens": len(tokens), **asdict(sampling)},
        }


def _prepare(row: Row, files: QuestionFile, prompter: Prompter, sampling: Sampling) -> Prompt:
    text, names = row.get("text"), row.get("image")
    names = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(text, str) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise PromptError("text or image is not text", "Give text a string, and image a file name.")
    images = [Image.open(files.image_folder / name, name, files.decoding) for name in names]
    example = prompter.encode([Turn(text, len(images))], images)
    room = prompter.room(example, sampling.max_tokens)
    return Prompt(example.tokens.tolist(), prompter.embed(example, images), room)


def _read_lines(path: Path, may_be_torn: bool = False) -> list[Row]:
    """The objects of a JSON-lines file; a torn file's incomplete last line is skipped."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text", "Save the file as UTF-8.") from None
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except ValueError:
            if may_be_torn and number == len(lines):
                break
            raise UsageError(f"{path}: line {number} is not JSON", "Give one JSON object on each line.") from None
        if not isinstance(row, dict):
            raise UsageError(f"{path}: line {number} is not an object", "Give one JSON object on each line.")
        if row:
            rows.append(row)
    return rows
