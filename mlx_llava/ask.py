"""`mlx-llava ask`: one question about images, or a file of questions.

Only the answer goes to stdout; everything else goes to stderr.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.errors import ImageError, UsageError
from mlx_llava.images.files import find_file, is_image_name
from mlx_llava.inference.format_options import FormatOptions, constraint_of
from mlx_llava.inference.options import ModelOptions, PromptOptions, SamplingOptions, check_model, sampling_of
from mlx_llava.program.flags import Examples, flag, flag_name, positional
from mlx_llava.program.limits import Limits, marks
from mlx_llava.program.options import parse
from mlx_llava.program.paths import expand_home
from mlx_llava.program.run import log, run
from mlx_llava.program.signals import interruptible
from mlx_llava.program.text import printable

if TYPE_CHECKING:
    from mlx_llava.inference.chat import Chat, Piece

NUM_TOP = 5  # alternatives that --logprobs shows
BATCH_SIZE = 8  # questions of a file


@dataclass(frozen=True)
class Only:
    """Marks a flag that only one of the two modes reads."""

    mode: str
    flag: str = ""
    """How an error names it; after its field unless given."""


SINGLE, FILE = "a single question", "--questions"


@dataclass(frozen=True, kw_only=True)
class QuestionOptions:
    """Question."""

    words: Annotated[tuple[str, ...], positional("IMAGE ... QUESTION"), Only(SINGLE, "a question")] = ()
    """Image files, and the question in quotes, in any order."""
    image: Annotated[tuple[str, ...], flag("IMAGE", "-a"), Only(SINGLE, "a question")] = ()
    """Image file; repeat the flag for several."""


@dataclass(frozen=True, kw_only=True)
class MemoryOptions:
    """Memory."""

    max_kv_size: Annotated[int | None, Limits(8, 2**24), Only(SINGLE)] = None
    """Cache at most this many positions: the first four and the newest (default: all)."""
    kv_bits: Annotated[Literal[2, 3, 4, 5, 6, 8] | None, Only(SINGLE)] = None
    """Quantize the cached keys and values to this many bits (default: not quantized)."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Output."""

    stream: Annotated[bool, Only(SINGLE, "--no-stream")] = True
    """Print the answer when it is complete instead of token by token."""
    json: Annotated[bool, Only(SINGLE)] = False
    """Print one JSON object instead of the text."""
    logprobs: Annotated[bool, Only(SINGLE)] = False
    """Add prompt token ids, and each token's log-probability with the five most likely tokens; implies --json."""
    stats: Annotated[bool, Only(SINGLE)] = False
    """Print counts, times and memory to stderr."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Files of questions."""

    questions: Annotated[Path | None, flag("FILE")] = None
    """JSON lines with question_id, image and text, as in LLaVA's question files."""
    answers: Annotated[Path | None, flag("FILE")] = None
    """File for the answers, one JSON line each; questions already answered there are skipped."""
    image_folder: Annotated[Path | None, flag("FOLDER"), Only(FILE)] = None
    """Folder with the images of --questions (default: the folder of the file)."""
    batch_size: Annotated[int | None, Limits(1, 1024), Only(FILE)] = None
    """Questions answered together (default: 8)."""


@dataclass(frozen=True, kw_only=True)
class AskOptions(
    QuestionOptions,
    ModelOptions,
    PromptOptions,
    SamplingOptions,
    FormatOptions,
    OutputOptions,
    FileOptions,
    MemoryOptions,
):
    """Ask a LLaVA about images.

    Images are optional. The question can also come from standard input.
    """

    examples: Examples = (
        "mlx-llava ask photo.jpg 'What is this?'",
        "mlx-llava ask photo.jpg 'Is this a dog?' --choices yes,no,unsure",
        "mlx-llava ask --questions questions.jsonl --answers answers.jsonl",
    )


def main() -> None:
    run(lambda: ask(parse(AskOptions, "mlx-llava ask")))


def ask(options: AskOptions) -> int:
    """Answer the question or the file of questions; returns the exit code."""
    check(options)
    if options.questions is not None and options.answers is not None:
        return _answer_file(options, options.questions, options.answers)
    names, question = _images_and_question(options)
    constraint = constraint_of(options)
    started = time.perf_counter()
    from mlx_llava.resolve import open_model

    checkpoint = open_model(options.model, options.revision, options.adapter_path)
    load_seconds = time.perf_counter() - started
    from mlx_llava.images.image import Image
    from mlx_llava.inference import report
    from mlx_llava.inference.chat import Chat
    from mlx_llava.inference.constraint import incomplete
    from mlx_llava.inference.sampling import CacheOptions

    images = [Image.open(name, name, options.decoding) for name in names]
    chat = Chat(checkpoint, options.template, options.system, CacheOptions(options.max_kv_size, options.kv_bits))
    sampling = sampling_of(options)
    top = NUM_TOP if options.logprobs else 0
    code = _print_answer(options, chat, chat.ask(question, images, sampling, top, constraint=constraint))
    facts = report.report(chat.answer, sampling, load_seconds, options.model or EMBEDDED)
    if options.json or options.logprobs:
        more = report.probabilities(chat.answer, checkpoint.tokenizer) if options.logprobs else {}
        print(json.dumps({**facts, "images": report.images(images, options.decoding), **more}))
    if options.stats:
        log(report.stats_line(facts))
    if constraint is not None and chat.answer.finish == "length":
        raise incomplete(len(chat.answer.tokens))
    return code


def _answer_file(options: AskOptions, questions: Path, answers: Path) -> int:
    from mlx_llava.inference.question_file import QuestionFile, answer_rows, open_files

    constraint = constraint_of(options)
    folder = options.image_folder or questions.parent
    files = QuestionFile(questions, answers, folder, options.decoding, options.batch_size or BATCH_SIZE)
    rows, out = open_files(files)  # before the model is loaded: errors in the file come at once
    from mlx_llava.inference.prompter import Prompter
    from mlx_llava.resolve import open_model

    checkpoint = open_model(options.model, options.revision, options.adapter_path)
    prompter = Prompter(checkpoint, options.template, options.system)
    return answer_rows(rows, files, out, prompter, sampling_of(options), options.model or EMBEDDED, constraint)


def _print_answer(options: AskOptions, chat: "Chat", pieces: "Iterable[Piece]") -> int:
    """Stream the answer to stdout; Ctrl-C stops with code 130 and keeps the text so far."""
    quiet = options.json or options.logprobs
    clean = printable if sys.stdout.isatty() else str
    code = 0
    with interruptible():
        try:
            for piece in pieces:
                if options.stream and not quiet:
                    print(clean(piece.text), end="", flush=True)
        except KeyboardInterrupt:
            code = 130
    if not quiet:
        print("" if options.stream else clean(chat.answer.text))
    return code


def check(options: AskOptions) -> None:
    """Raise UsageError for values out of range and for flags that exclude each other."""
    check_model(options)
    if (options.questions is None) != (options.answers is None):
        raise UsageError("--questions and --answers go together", "Give both.")
    mode, defaults = SINGLE if options.questions is None else FILE, AskOptions()
    for name, only in marks(AskOptions, Only):
        if only.mode != mode and getattr(options, name) != getattr(defaults, name):
            wrong = only.flag or flag_name(name)
            raise UsageError(f"{wrong} belongs to {only.mode}, not to {mode}", f"Leave {wrong} out.")


def _images_and_question(options: AskOptions) -> tuple[list[str], str]:
    """Split the words into image paths and the question."""
    # a missing file still counts as an image if it ends like one
    questions = [word for word in options.words if not (is_image_name(word) or _is_file(word))]
    if not questions:  # "Is this like cat.png" ends like a file name, but has spaces and is no file
        questions = [word for word in options.words if " " in word and not _is_file(word)]
    if len(questions) > 1:
        first, second = questions[0][:60], questions[1][:60]
        raise UsageError(f"{len(questions)} questions: {first!r} and {second!r}", "Put the question in quotes.")
    images = [*options.image, *(word for word in options.words if word not in questions)]
    for name in images:
        if not _is_file(name):
            raise ImageError(f"{name}: no such image", "Check the path.")
    question = questions[0] if questions else "" if sys.stdin.isatty() else sys.stdin.read().strip()
    if not question:
        raise UsageError("no question", f"For example: {AskOptions.examples[0]}")
    return [str(find_file(expand_home(name))) for name in images], question


def _is_file(word: str) -> bool:
    try:
        return find_file(expand_home(word)).is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a path, a null in it, no such user
        return False


if __name__ == "__main__":
    main()
