"""LLaVA's question files: JSON lines in, JSON lines out, answered in batches.

A failing row is recorded with its error and does not stop the others; the next run retries rows without an answer.
The keys are those of LLaVA's llava/eval/model_vqa.py, and `image`.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mlx_llava.errors import LlavaError, PromptError, UsageError
from mlx_llava.images.image import Image
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference.batches import Question, Reply, answer_all
from mlx_llava.inference.constraint import Constraint
from mlx_llava.inference.json_lines import AnswerFile, Row, read_rows
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.run import log
from mlx_llava.program.signals import interruptible


@dataclass(frozen=True)
class QuestionFile:
    """The files of one run, and how many questions to answer together."""

    questions: Path
    answers: Path
    image_folder: Path
    decoding: Decoding
    batch_size: int


def open_files(files: QuestionFile) -> tuple[list[Row], AnswerFile]:
    """The rows that have no answer yet, and the file for their answers; UsageError if a file is invalid."""
    rows = read_rows(files.questions)
    for number, row in enumerate(rows, 1):
        if not isinstance(row.get("question_id"), str | int):
            raise UsageError(f"{files.questions}: row {number} has no question_id", "Give every row an id.")
    if files.answers.exists() and files.answers.samefile(files.questions):
        raise UsageError(f"{files.answers}: the file of questions", "Give the answers a file of their own.")
    out = AnswerFile(files.answers)
    waiting = _waiting(rows, [row for row in out.rows if "text" in row])
    log(f"{len(waiting)} of {len(rows)} questions to answer")
    return waiting, out


def _waiting(rows: Sequence[Row], answered: Sequence[Row]) -> list[Row]:
    """The rows without an answer; one id may have several texts, as in MME, and each text several images.

    Earlier versions recorded no images: their answers count where id and text leave no doubt.
    """
    whole = {_key(row, "prompt") for row in answered if "image" in row}
    short = {_key(row, "prompt")[:2] for row in answered if "image" not in row}
    same = Counter(key[:2] for key in {_key(row, "text") for row in rows})
    done = [(key := _key(row, "text")) in whole or (key[:2] in short and same[key[:2]] == 1) for row in rows]
    return [row for row, is_done in zip(rows, done, strict=True) if not is_done]


def _key(row: Row, text: str) -> tuple[str, str, str]:
    """What tells a question from others: its id, its text and its images."""
    return json.dumps(row.get("question_id")), json.dumps(row.get(text)), json.dumps(row.get("image"))


def answer_rows(
    rows: Sequence[Row],
    files: QuestionFile,
    out: AnswerFile,
    prompter: Prompter,
    sampling: Sampling,
    model_id: str,
    constraint: Constraint | None = None,
) -> int:
    """Append an answer or an error for every row; returns the exit code."""
    questions = [Question(str(row.get("text")), partial(_open_images, row, files), constraint) for row in rows]

    def record(number: int, outcome: Reply | LlavaError) -> None:
        row = rows[number]
        question = {"question_id": row["question_id"], "image": row.get("image")}
        if isinstance(outcome, LlavaError):
            log(f"question {row['question_id']}: {outcome.problem}")
            out.append({**question, "error": outcome.problem, "model_id": model_id})
            return
        metadata = {"finish": outcome.finish, "output_tokens": len(outcome.tokens), **asdict(sampling)}
        answer = {"prompt": row["text"], "text": outcome.text, "metadata": metadata}
        out.append({**question, **answer, "model_id": model_id})

    with interruptible(), out:
        code = answer_all(prompter, questions, sampling, files.batch_size, record)
    if code:
        log(f"the errors are in {files.answers}; the next run tries these rows again")
    return code


def _open_images(row: Row, files: QuestionFile) -> list[Image]:
    """The images of a row; PromptError unless its text and its file names are text."""
    text, names = row.get("text"), row.get("image")
    names = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(text, str) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise PromptError("text or image is not text", "Give text a string, and image a file name.")
    if "" in names:
        raise PromptError("image is an empty file name", "Leave the key out for a question without an image.")
    return [Image.open(files.image_folder / name, name, files.decoding) for name in names]
