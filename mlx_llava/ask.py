"""`mlx-llava ask`: one question about pictures, or a file of questions.

stdout holds the answer and nothing else; everything about it goes to stderr.
"""

import json
import random
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from mlx_llava.errors import ImageError, UsageError
from mlx_llava.program.options import optional, parse
from mlx_llava.program.paths import expanded
from mlx_llava.program.run import printable, run

if TYPE_CHECKING:
    from mlx_llava.checkpoint.folder import Checkpoint
    from mlx_llava.inference.chat import Chat, Image
    from mlx_llava.inference.generate import Sampling

IMAGES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".ppm")
NUM_TOP = 5  # alternatives that --logprobs shows
BATCH_SIZE = 8  # questions of a file
EMBEDDED = "embedded"  # what reports call the model of this package


@dataclass(frozen=True)
class AskOptions:
    """Ask a LLaVA about pictures: `mlx-llava ask photo.jpg "What is this?"`.

    Without pictures it is a question of text. The question may also come on standard input.
    """

    words: Annotated[Positional[tuple[str, ...]], optional("PICTURE ... QUESTION")] = ()
    """Pictures, and the question."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder, or a repository that holds one; the small model of this package unless given."""
    adapter_path: Annotated[Path | None, optional("FOLDER")] = None
    """Adapters that `mlx-llava lora` trained on this model."""
    revision: Annotated[str | None, optional("REVISION")] = None
    """Branch, tag or commit of the repository."""
    image: Annotated[tuple[str, ...], optional("PICTURE", "-a")] = ()
    """A picture; give it again for several."""
    decoding: Literal["display", "training"] = "display"
    """How files are read: as a viewer shows them, or exactly as LLaVA was trained and evaluated."""
    system: Annotated[str | None, optional("TEXT", "-s")] = None
    """System prompt, instead of the template's."""
    template: Annotated[str | None, optional("NAME")] = None
    """Prompt template, instead of the one recorded at conversion."""
    max_tokens: int = 512
    """Tokens at most."""
    temp: Annotated[float, arg(aliases=["--temperature"])] = 0.0
    """Randomness; 0 takes the likeliest token every time."""
    top_p: float = 1.0
    """Choose among the likeliest tokens that together have this probability."""
    top_k: int = 0
    """Choose among this many of the likeliest tokens; 0 for all."""
    min_p: float = 0.0
    """Choose among tokens with at least this share of the likeliest one's probability."""
    repetition_penalty: float = 1.0
    """Above 1: make the last 20 tokens less likely."""
    seed: Annotated[int | None, optional("N")] = None
    """Start of the random numbers; the one used is in --json and --stats."""
    max_kv_size: Annotated[int | None, optional("N")] = None
    """Keep this many positions at most; the model no longer sees older ones, the first four aside."""
    kv_bits: Annotated[Literal[2, 3, 4, 5, 6, 8] | None, optional("{2,3,4,5,6,8}")] = None
    """Pack kept keys and values into this many bits."""
    json: bool = False
    """Print one JSON object instead of the text."""
    logprobs: bool = False
    """Add the prompt's ids and every token with its log-probability and the five likeliest; implies --json."""
    stats: bool = False
    """Print counts, times and memory to stderr."""
    stream: bool = True
    """Print the answer whole, not as it comes."""
    questions: Annotated[Path | None, optional("FILE")] = None
    """JSON lines with question_id, image, text: LLaVA's question files."""
    answers: Annotated[Path | None, optional("FILE")] = None
    """Where their answers go, a line each; ids that have an answer there are skipped."""
    image_folder: Annotated[Path | None, optional("FOLDER")] = None
    """Where the pictures of --questions lie; beside the file unless given."""
    batch_size: Annotated[int | None, optional("N")] = None
    """Questions of a file that are answered together; 8 unless given."""


def main() -> None:
    """Run the program."""
    run(lambda: ask(parse(AskOptions, "mlx-llava ask")))


def ask(options: AskOptions) -> int:
    """Answer; the exit code."""
    check(options)
    if options.questions is not None and options.answers is not None:
        return _answer_file(options, options.questions, options.answers)
    names, question = _sort(options)
    checkpoint, load_seconds = _load(options)
    from mlx_llava.inference import report
    from mlx_llava.inference.chat import Chat, Image
    from mlx_llava.inference.generate import CacheOptions

    images = [Image.open(Path(name), name, checkpoint.config.image, options.decoding) for name in names]
    chat = Chat(checkpoint, options.template, options.system, CacheOptions(options.max_kv_size, options.kv_bits))
    sampling = sampling_of(options)
    code = _answer(options, chat, question, images, sampling)
    facts = report.report(chat.answer, sampling, load_seconds, options.model or EMBEDDED)
    if options.json or options.logprobs:
        more = report.probabilities(chat.answer, checkpoint.tokenizer) if options.logprobs else {}
        print(json.dumps({**facts, "images": report.images(images, options.decoding), **more}))
    if options.stats:
        print(printable(report.stats_line(facts)), file=sys.stderr)
    return code


def _answer_file(options: AskOptions, questions: Path, answers: Path) -> int:
    from mlx_llava.inference.question_file import QuestionFile, answer_rows, waiting_rows

    folder = options.image_folder or questions.parent
    files = QuestionFile(questions, answers, folder, options.decoding, options.batch_size or BATCH_SIZE)
    rows = waiting_rows(files)  # before the model: a wrong file is told at once
    checkpoint, _ = _load(options)
    from mlx_llava.inference.chat import Chat

    new_chat = partial(Chat, checkpoint, options.template, options.system)
    return answer_rows(rows, files, new_chat, sampling_of(options), options.model or EMBEDDED)


def _answer(options: AskOptions, chat: "Chat", question: str, images: "list[Image]", sampling: "Sampling") -> int:
    """Print the answer as it comes; Ctrl-C ends it early with 130 and keeps what was said."""
    quiet = options.json or options.logprobs
    clean = printable if sys.stdout.isatty() else str
    code = 0
    try:
        for piece in chat.ask(question, images, sampling, NUM_TOP if options.logprobs else 0):
            if options.stream and not quiet:
                print(clean(piece.text), end="", flush=True)
    except KeyboardInterrupt:
        code = 130
    if not quiet:
        print("" if options.stream else clean(chat.answer.text))
    return code


def check(options: AskOptions) -> None:
    """Raise UsageError for values out of range and flags that do not go together."""
    ranges = (
        ("--max-tokens", options.max_tokens, 1, 2**20),
        ("--temp", options.temp, 0, 100),
        ("--top-p", options.top_p, 1e-6, 1),
        ("--top-k", options.top_k, 0, 2**20),
        ("--min-p", options.min_p, 0, 1),
        ("--repetition-penalty", options.repetition_penalty, 1e-3, 1e3),
        ("--seed", options.seed, 0, 2**63 - 1),
        ("--max-kv-size", options.max_kv_size, 8, 2**24),
        ("--batch-size", options.batch_size, 1, 1024),
    )
    for flag, value, low, high in ranges:
        if value is not None and not low <= value <= high:
            raise UsageError(f"{flag} {value} is out of range", f"Give a number from {low:g} to {high:g}.")
    if (options.questions is None) != (options.answers is None):
        raise UsageError("--questions and --answers go together", "Give both.")
    one, many = ("a single question", "--questions"), ("--questions", "a single question")
    mine, other = many if options.questions else one
    for flag, given in _flags_of(options, other):
        if given:
            raise UsageError(f"{flag} belongs to {other}, not to {mine}", f"Leave {flag} out.")
    if options.revision and not options.model:
        raise UsageError("--revision without --model", "Name the repository with --model.")


def _flags_of(options: AskOptions, kind: str) -> list[tuple[str, object]]:
    """The flags that only a single question, or only a file of them, can heed."""
    if kind == "--questions":
        return [("--image-folder", options.image_folder), ("--batch-size", options.batch_size)]
    return [
        ("a question", options.words or options.image),
        ("--json", options.json),
        ("--logprobs", options.logprobs),
        ("--stats", options.stats),
        ("--no-stream", not options.stream),
        ("--max-kv-size", options.max_kv_size),
        ("--kv-bits", options.kv_bits),
    ]


def _sort(options: AskOptions) -> tuple[list[str], str]:
    """Which words are pictures, and which one is the question."""
    questions = [word for word in options.words if not _names_image(word)]
    if not questions:  # "Is this like cat.png": no file, and nobody names pictures so
        questions = [word for word in options.words if " " in word and not _is_file(word)]
    if len(questions) > 1:
        raise UsageError(
            f"{len(questions)} questions: {questions[0][:60]!r} and {questions[1][:60]!r}",
            "Put the question into quotes.",
        )
    images = [*options.image, *(word for word in options.words if word not in questions)]
    for name in images:
        if not _is_file(name):
            raise ImageError(f"{name}: no such picture", "Check the path.")
    question = questions[0] if questions else "" if sys.stdin.isatty() else sys.stdin.read().strip()
    if not question:
        raise UsageError("no question", 'For example: mlx-llava ask photo.jpg "What is this?"')
    return [str(expanded(name)) for name in images], question


def _names_image(word: str) -> bool:
    """A file, or a name that ends like one: a picture that is missing is no question."""
    return word.lower().endswith(IMAGES) or _is_file(word)


def _is_file(word: str) -> bool:
    try:
        return expanded(word).is_file()
    except (OSError, ValueError, RuntimeError):  # too long for a path, a null in it, no such user
        return False


def _load(options: AskOptions) -> "tuple[Checkpoint, float]":
    started = time.perf_counter()
    from mlx_llava.resolve import open_model

    checkpoint = open_model(options.model, options.revision, options.adapter_path)
    return checkpoint, time.perf_counter() - started


def sampling_of(options: AskOptions) -> "Sampling":
    """The sampling that the flags ask for; a seed is drawn where none was given."""
    from mlx_llava.inference.generate import Sampling

    return Sampling(
        max_tokens=options.max_tokens,
        temperature=options.temp,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=random.SystemRandom().randrange(2**31) if options.seed is None else options.seed,
    )


if __name__ == "__main__":
    main()
