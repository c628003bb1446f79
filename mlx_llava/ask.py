"""`mlx-llava ask`: one question about images, the same question about each of many, or a file of questions.

Only the answer goes to stdout; everything else goes to stderr.
"""

import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.errors import UsageError
from mlx_llava.inference.format_options import FormatOptions, constraint_of
from mlx_llava.inference.options import (
    BATCH_SIZE,
    ModelOptions,
    PromptOptions,
    SamplingOptions,
    check_model,
    sampling_of,
)
from mlx_llava.program.flags import Examples, flag, flag_name, positional
from mlx_llava.program.limits import Limits, marks
from mlx_llava.program.options import parse
from mlx_llava.program.run import log, run
from mlx_llava.program.signals import interruptible
from mlx_llava.program.text import printable

if TYPE_CHECKING:
    from mlx_llava.inference.chat import Chat, Piece
    from mlx_llava.inference.constraint import Constraint
    from mlx_llava.inference.prompter import Prompter
    from mlx_llava.inference.words import Asked

NUM_TOP = 5  # alternatives that --logprobs shows


class Only:
    """Marks a flag that only some modes read."""

    def __init__(self, *modes: str, flag: str = "") -> None:
        self.modes = modes
        self.flag = flag  # how an error names it; after its field unless given


SINGLE, EACH, FILE = "a single question", "--each", "--questions"


@dataclass(frozen=True, kw_only=True)
class QuestionOptions:
    """Question."""

    words: Annotated[tuple[str, ...], positional("IMAGE ... QUESTION"), Only(SINGLE, EACH, flag="a question")] = ()
    """Image files or addresses, and the question in quotes, in any order; `-` is standard input."""
    image: Annotated[tuple[str, ...], flag("IMAGE", "-a"), Only(SINGLE, EACH)] = ()
    """Image file, address or `-`; repeat the flag for several."""
    prompt: Annotated[str | None, flag("QUESTION", "-p"), Only(SINGLE, EACH)] = None
    """The question; all words are images then."""
    each: bool = False
    """Ask about each image alone, and print one JSON line for each; folders and patterns stand for their images."""


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

    stream: Annotated[bool, Only(SINGLE, flag="--no-stream")] = True
    """Print the answer when it is complete instead of token by token."""
    json: Annotated[bool, Only(SINGLE)] = False
    """Print one JSON object instead of the text."""
    logprobs: Annotated[bool, Only(SINGLE)] = False
    """Add prompt token ids, and each token's log-probability with the five most likely tokens; implies --json."""
    stats: Annotated[bool, Only(SINGLE)] = False
    """Print counts, times and memory to stderr."""


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """Many questions."""

    questions: Annotated[Path | None, flag("FILE")] = None
    """JSON lines with question_id, image and text, as in LLaVA's question files."""
    answers: Annotated[Path | None, flag("FILE"), Only(EACH, FILE)] = None
    """File for the answers, one JSON line each; what is already answered there is skipped."""
    write_captions: Annotated[str | None, flag("[.SUFFIX]", alone=".txt"), Only(EACH)] = None
    """Write each answer beside its image (cat.png, cat.txt); files that exist are left as they are."""
    image_folder: Annotated[Path | None, flag("FOLDER"), Only(FILE)] = None
    """Folder with the images of --questions (default: the folder of the file)."""
    batch_size: Annotated[int | None, Limits(1, 1024), Only(EACH, FILE)] = None
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
        "mlx-llava ask --each photos/ 'Describe the image.' --write-captions",
        "mlx-llava ask --questions questions.jsonl --answers answers.jsonl",
    )


def main() -> None:
    run(lambda: ask(parse(AskOptions, "mlx-llava ask")))


def ask(options: AskOptions) -> int:
    """Answer the question or the file of questions; returns the exit code."""
    check(options)
    if options.questions is not None and options.answers is not None:
        return _answer_file(options, options.questions, options.answers)
    from mlx_llava.images.named import open_named
    from mlx_llava.inference.words import read_words

    constraint = constraint_of(options)
    asked = read_words(options.words, options.image, options.prompt, options.decoding, each=options.each)
    if options.each:
        return _ask_each(options, asked, constraint)
    images = [open_named(name, options.decoding) for name in asked.names]
    images += [asked.piped] if asked.piped else []
    started = time.perf_counter()
    from mlx_llava.resolve import open_model

    checkpoint = open_model(options.model, options.revision, options.adapter_path)
    load_seconds = time.perf_counter() - started
    from mlx_llava.inference import report
    from mlx_llava.inference.chat import Chat
    from mlx_llava.inference.constraint import incomplete
    from mlx_llava.inference.sampling import CacheOptions

    chat = Chat(checkpoint, options.template, options.system, CacheOptions(options.max_kv_size, options.kv_bits))
    sampling = sampling_of(options)
    top = NUM_TOP if options.logprobs else 0
    code = _print_answer(options, chat, chat.ask(asked.question, images, sampling, top, constraint=constraint))
    facts = report.report(chat.answer, sampling, load_seconds, options.model or EMBEDDED)
    if options.json or options.logprobs:
        more = report.probabilities(chat.answer, checkpoint.tokenizer) if options.logprobs else {}
        print(json.dumps({**facts, "images": report.images(images, options.decoding), **more}))
    if options.stats:
        log(report.stats_line(facts))
    if constraint is not None and chat.answer.finish == "length":
        raise incomplete(len(chat.answer.tokens))
    return code


def _ask_each(options: AskOptions, asked: "Asked", constraint: "Constraint | None") -> int:
    from mlx_llava.images.named import expand
    from mlx_llava.inference.each import Each, ask_each, waiting
    from mlx_llava.inference.json_lines import AnswerFile

    if asked.piped:
        raise UsageError("an image on standard input with --each", "Save it, and name its file.")
    if not asked.names:
        raise UsageError("--each without images", "Name files, folders, patterns or addresses.")
    answers = None if options.answers is None else AnswerFile(options.answers)
    names = tuple(expand(asked.names))
    write_line = partial(print, flush=True)
    batch_size = options.batch_size or BATCH_SIZE
    each = Each(asked.question, names, options.decoding, batch_size, write_line, answers, options.write_captions)
    left = waiting(each)
    if not left:
        return 0
    return ask_each(each, left, _open_prompter(options), sampling_of(options), options.model or EMBEDDED, constraint)


def _answer_file(options: AskOptions, questions: Path, answers: Path) -> int:
    from mlx_llava.inference.question_file import QuestionFile, answer_rows, open_files

    constraint = constraint_of(options)
    folder = options.image_folder or questions.parent
    files = QuestionFile(questions, answers, folder, options.decoding, options.batch_size or BATCH_SIZE)
    rows, out = open_files(files)  # before the model is loaded: errors in the file come at once
    prompter, sampling = _open_prompter(options), sampling_of(options)
    return answer_rows(rows, files, out, prompter, sampling, options.model or EMBEDDED, constraint)


def _open_prompter(options: AskOptions) -> "Prompter":
    from mlx_llava.inference.prompter import Prompter
    from mlx_llava.resolve import open_model

    checkpoint = open_model(options.model, options.revision, options.adapter_path)
    return Prompter(checkpoint, options.template, options.system)


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
    if options.questions is not None and options.answers is None:
        raise UsageError("--questions without --answers", "Name a file for the answers with --answers.")
    if options.questions is not None and options.each:
        raise UsageError("--questions and --each exclude each other", "Leave one out.")
    mode = FILE if options.questions is not None else EACH if options.each else SINGLE
    defaults = AskOptions()
    for name, only in marks(AskOptions, Only):
        if mode not in only.modes and getattr(options, name) != getattr(defaults, name):
            wrong = only.flag or flag_name(name)
            raise UsageError(f"{wrong} belongs to {' and '.join(only.modes)}, not to {mode}", f"Leave {wrong} out.")


if __name__ == "__main__":
    main()
