"""LLaVA's question files: JSON lines in, JSON lines out, answered in batches.

A row that fails is recorded with its error and the others go on; run again, rows without an answer are tried
again. The keys are those of LLaVA's llava/eval/model_vqa.py.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlx_llava.errors import LlavaError, PromptError, UsageError
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference import generate
from mlx_llava.inference.chat import Chat, Image, StopText
from mlx_llava.inference.generate import Prompt, Sampling, Token
from mlx_llava.program.run import printable
from mlx_llava.prompts.templates import Turn

SOME_FAILED = 6  # exit code


@dataclass(frozen=True)
class QuestionFile:
    """Where questions come from and answers go."""

    questions: Path
    answers: Path
    image_folder: Path
    decoding: Decoding
    batch_size: int


def waiting_rows(files: QuestionFile) -> list[dict[str, Any]]:
    """The rows that have no answer yet; UsageError where a file is not what it should be."""
    rows = _read_lines(files.questions, may_be_torn=False)
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
    _say(f"{len(waiting)} of {len(rows)} questions to answer")
    return waiting


def answer_rows(
    rows: Sequence[dict[str, Any]],
    files: QuestionFile,
    new_chat: Callable[[], Chat],
    sampling: Sampling,
    model_id: str,
) -> int:
    """Append an answer, or an error, for every row; the exit code."""
    failed = 0
    with files.answers.open("a", encoding="utf-8") as out:
        _end_torn_line(files.answers, out)
        for start in range(0, len(rows), files.batch_size):
            for result in _answer(rows[start : start + files.batch_size], files, new_chat, sampling):
                failed += "error" in result
                out.write(json.dumps({**result, "model_id": model_id}) + "\n")
            out.flush()
            _say(f"{min(start + files.batch_size, len(rows))} of {len(rows)} done")
    if failed:
        _say(f"{failed} failed; each is in {files.answers} with its error, and is tried again by the next run")
    return SOME_FAILED if failed else 0


def _answer(
    rows: Sequence[dict[str, Any]], files: QuestionFile, new_chat: Callable[[], Chat], sampling: Sampling
) -> Iterator[dict[str, Any]]:
    """Results of one batch, in the rows' order but failing rows first."""
    ready: list[tuple[dict[str, Any], Prompt]] = []
    chat = new_chat()
    for row in rows:
        try:
            prompt = _prepare(row, files, chat, sampling)
        except LlavaError as error:
            _say(f"question {row['question_id']}: {error.problem}")
            yield {"question_id": row["question_id"], "error": error.problem}
        else:
            ready.append((row, prompt))
    if not ready:
        return
    answers = generate.batch(
        chat.checkpoint.model.language_model, [prompt for _, prompt in ready], sampling, chat.stop_ids
    )
    for (row, _), tokens in zip(ready, answers, strict=True):
        text, stopped = _text(chat, tokens)
        finish = "stop" if stopped or tokens[-1].id in chat.stop_ids else "length"
        yield {
            "question_id": row["question_id"],
            "prompt": row["text"],
            "text": text,
            "metadata": {"finish": finish, "output_tokens": len(tokens), **asdict(sampling)},
        }


def _prepare(row: dict[str, Any], files: QuestionFile, chat: Chat, sampling: Sampling) -> Prompt:
    """One row's prompt, with what it shows."""
    text, names = row.get("text"), row.get("image")
    names = [] if names is None else [names] if isinstance(names, str) else names
    if not isinstance(text, str) or not isinstance(names, list) or not all(isinstance(n, str) for n in names):
        raise PromptError("text or image is not text", "Give text a string, and image a file name.")
    config = chat.checkpoint.config
    images = [Image.open(files.image_folder / name, name, config.image, files.decoding) for name in names]
    example = chat.encode([Turn(text, len(images))], images)
    room = chat.room(example, sampling.max_tokens)
    return Prompt(example.tokens.tolist(), chat.embed(example, images), room)


def _text(chat: Chat, tokens: Sequence[Token]) -> tuple[str, bool]:
    """The text up to a stop text of the template, and whether there was one."""
    stop_text = StopText(chat.template.stop)
    ids = [token.id for token in tokens if token.id not in chat.stop_ids]
    text = stop_text.add(chat.checkpoint.tokenizer.decode(ids))
    return text + stop_text.held, stop_text.reached


def _read_lines(path: Path, may_be_torn: bool) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file; a torn one's last line is left out if it broke off."""
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


def _end_torn_line(path: Path, out: Any) -> None:
    """Begin a new line where an earlier run was killed while writing one."""
    if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
        out.write("\n")


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)
