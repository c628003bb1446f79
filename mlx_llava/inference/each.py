"""The same question about many images: one JSON line each, and captions beside the images.

A run that was interrupted continues: images with a line in the answers file, or else with a caption, are skipped.
"""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from mlx_llava.errors import LlavaError, UsageError
from mlx_llava.images.files import find_file, is_address, is_image_name
from mlx_llava.images.image import Image
from mlx_llava.images.named import open_named
from mlx_llava.images.pixels import Decoding
from mlx_llava.inference.batches import Question, Reply, answer_all
from mlx_llava.inference.constraint import Constraint
from mlx_llava.inference.json_lines import AnswerFile, Row
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling
from mlx_llava.program.atomic import write_file
from mlx_llava.program.paths import expand_home
from mlx_llava.program.run import log
from mlx_llava.program.signals import interruptible


@dataclass(frozen=True)
class Each:
    """One question about several images, and where the answers go."""

    question: str
    names: tuple[str, ...]
    decoding: Decoding
    batch_size: int
    write_line: Callable[[str], None]
    """Receives the answers as JSON, unless there is a file for them."""
    answers: AnswerFile | None = None
    captions: str | None = None
    """Suffix of the files with captions; None for no such files."""

    def __post_init__(self) -> None:
        if self.captions is not None:
            _check_captions(self.names, self.captions)


def waiting(each: Each) -> list[str]:
    """The images to ask about. Captions that are missing are written from recorded answers where there are any."""
    answered = {row.get("path"): row for row in each.answers.rows if _is_answer(row, each)} if each.answers else {}
    for name in each.names:
        if name in answered and each.captions is not None:
            _write_caption(name, each.captions, answered[name]["text"])
    captioned = {name for name in each.names if each.captions and _caption_file(name, each.captions).exists()}
    names = [name for name in each.names if name not in (answered if each.answers else captioned)]
    if captioned:
        log(
            f"{len(captioned)} image{'s have' if len(captioned) > 1 else ' has'} a caption file, which is left as it is"
        )
    log(f"{len(names)} of {len(each.names)} images to ask about")
    return names


def ask_each(
    each: Each,
    names: Sequence[str],
    prompter: Prompter,
    sampling: Sampling,
    model_id: str,
    constraint: Constraint | None = None,
) -> int:
    """Record an answer or an error for every image; returns the exit code."""
    questions = [Question(each.question, partial(_open, name, each.decoding), constraint) for name in names]

    def record(number: int, outcome: Reply | LlavaError) -> None:
        row: Row = {"path": names[number], "prompt": each.question}
        if isinstance(outcome, LlavaError):
            log(outcome.problem if names[number] in outcome.problem else f"{names[number]}: {outcome.problem}")
            row["error"] = outcome.problem
        else:
            metadata = {"finish": outcome.finish, "output_tokens": len(outcome.tokens), **asdict(sampling)}
            row |= {"text": outcome.text, "metadata": metadata}
        row["model_id"] = model_id
        if each.answers:
            each.answers.append(row)
        else:
            each.write_line(json.dumps(row))
        if "text" in row and each.captions is not None:
            _write_caption(names[number], each.captions, row["text"])

    with interruptible(), ExitStack() as stack:
        if each.answers is not None:
            stack.enter_context(each.answers)
        return answer_all(prompter, questions, sampling, each.batch_size, record)


def _open(name: str, decoding: Decoding) -> list[Image]:
    return [open_named(name, decoding)]


def _is_answer(row: Row, each: Each) -> bool:
    return isinstance(row.get("text"), str) and row.get("prompt") == each.question


def _check_captions(names: Sequence[str], suffix: str) -> None:
    """Raise UsageError where a caption has no file of its own beside its image."""
    if not suffix.startswith(".") or "/" in suffix or is_image_name(f"a{suffix}"):
        raise UsageError(f"--write-captions {suffix}: not a suffix for captions", "Give one like .txt or .caption.")
    images: dict[Path, str] = {}
    for name in names:
        if is_address(name):
            raise UsageError(f"{name}: no folder for a caption", "Save the image, or leave --write-captions out.")
        other = images.setdefault(_caption_file(name, suffix), name)
        if not os.access(_caption_file(name, suffix).parent, os.W_OK):
            raise UsageError(f"{name}: its folder cannot be written to", "Use --answers FILE instead of captions.")
        if other != name:
            problem = f"{other} and {name} would have the same caption file"
            raise UsageError(problem, "Rename one of them, or use --answers FILE instead.")


def _caption_file(name: str, suffix: str) -> Path:
    return find_file(expand_home(name)).with_suffix(suffix)


def _write_caption(name: str, suffix: str, text: str) -> None:
    """Write a caption, unless a file of this name exists."""
    file = _caption_file(name, suffix)
    if not file.exists():
        write_file(file, f"{text.strip()}\n".encode())
