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
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from mlx_llava.errors import ImageError, UsageError
from mlx_llava.options import optional, parse
from mlx_llava.program import printable, run

if TYPE_CHECKING:
    from mlx_llava.chat import Chat, Picture
    from mlx_llava.checkpoint import Checkpoint
    from mlx_llava.generate import Sampling

PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".ppm")
NUM_TOP = 5  # alternatives that --logprobs shows


@dataclass(frozen=True)
class AskOptions:
    """Ask a LLaVA about pictures: `mlx-llava ask photo.jpg "What is this?"`.

    Without pictures it is a question of text. The question may also come on standard input.
    """

    words: Annotated[Positional[tuple[str, ...]], optional("PICTURE ... QUESTION")] = ()
    """Pictures, and the question."""
    model: Annotated[str | None, optional("MODEL", "-m")] = None
    """Converted folder, or a repository that holds one; the small model of this package unless given."""
    revision: Annotated[str | None, optional("REVISION")] = None
    """Branch, tag or commit of the repository."""
    image: Annotated[tuple[str, ...], optional("PICTURE", "-a")] = ()
    """A picture; give it again for several."""
    look: Literal["seen", "exact"] = "seen"
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
    """Keep this many positions at most; older ones are forgotten."""
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
    batch_size: int = 8
    """Questions answered together."""


def main() -> None:
    """Run the program."""
    run(lambda: ask(parse(AskOptions, "mlx-llava ask")))


def ask(options: AskOptions) -> int:
    """Answer; the exit code."""
    _check(options)
    if options.questions is not None and options.answers is not None:
        return _answer_file(options, options.questions, options.answers)
    pictures, question = _sort(options)
    checkpoint, load_seconds = _load(options)
    from mlx_llava.chat import Chat, Picture
    from mlx_llava.generate import CacheOptions

    looks = [Picture.open(Path(name), name, checkpoint.config.picture, options.look) for name in pictures]
    chat = Chat(checkpoint, options.template, options.system, CacheOptions(options.max_kv_size, options.kv_bits))
    sampling = sampling_of(options)
    code = _answer(options, chat, question, looks, sampling)
    facts = report(options, chat, looks, sampling, load_seconds)
    if options.json or options.logprobs:
        print(json.dumps(facts, ensure_ascii=False))  # noqa: T201
    if options.stats:
        print(printable(stats_line(facts)), file=sys.stderr)  # noqa: T201
    return code


def _answer_file(options: AskOptions, questions: Path, answers: Path) -> int:
    checkpoint, _ = _load(options)
    from mlx_llava.chat import Chat
    from mlx_llava.questions import QuestionFile, answer_file

    folder = options.image_folder or questions.parent
    files = QuestionFile(questions, answers, folder, options.look, options.batch_size)
    new_chat = partial(Chat, checkpoint, options.template, options.system)
    return answer_file(files, new_chat, sampling_of(options), options.model or "embedded")


def _answer(options: AskOptions, chat: "Chat", question: str, pictures: "list[Picture]", sampling: "Sampling") -> int:
    """Print the answer as it comes; Ctrl-C ends it early with 130 and keeps what was said."""
    quiet = options.json or options.logprobs
    clean = printable if sys.stdout.isatty() else str
    code = 0
    try:
        for piece in chat.ask(question, pictures, sampling, NUM_TOP if options.logprobs else 0):
            if options.stream and not quiet:
                print(clean(piece.text), end="", flush=True)  # noqa: T201
    except KeyboardInterrupt:
        code = 130
    if not quiet:
        print("" if options.stream else clean(chat.answer.text))  # noqa: T201
    return code


def _check(options: AskOptions) -> None:
    if (options.questions is None) != (options.answers is None):
        raise UsageError("--questions and --answers go together", "Give both.")
    if options.questions is not None and (options.words or options.image):
        raise UsageError("a question and --questions", "Put the question into the file, or leave --questions out.")
    ranges = (
        ("--max-tokens", options.max_tokens, 1, 2**20),
        ("--temp", options.temp, 0, 100),
        ("--top-p", options.top_p, 1e-6, 1),
        ("--top-k", options.top_k, 0, 2**20),
        ("--min-p", options.min_p, 0, 1),
        ("--repetition-penalty", options.repetition_penalty, 1e-3, 1e3),
        ("--seed", options.seed or 0, 0, 2**63 - 1),
        ("--max-kv-size", options.max_kv_size or 8, 8, 2**24),
        ("--batch-size", options.batch_size, 1, 1024),
    )
    for flag, value, low, high in ranges:
        if not low <= value <= high:
            raise UsageError(f"{flag} {value}", f"Give a number from {low:g} to {high:g}.")


def _sort(options: AskOptions) -> tuple[list[str], str]:
    """Which words are pictures, and which one is the question."""
    pictures = [word for word in options.words if _names_picture(word)]
    questions = [word for word in options.words if not _names_picture(word)]
    if len(questions) > 1:
        raise UsageError(
            f"{len(questions)} questions: {questions[0]!r} and {questions[1]!r}", "Put the question into quotes."
        )
    if not questions and not sys.stdin.isatty():
        questions = [sys.stdin.read().strip()]
    if not questions or not questions[0]:
        raise UsageError("no question", 'For example: mlx-llava ask photo.jpg "What is this?"')
    pictures = [*options.image, *pictures]
    for name in pictures:
        if not Path(name).expanduser().exists():
            raise ImageError(f"{name}: no such picture", "Check the path.")
    return [str(Path(name).expanduser()) for name in pictures], questions[0]


def _names_picture(word: str) -> bool:
    """A file, or a name that ends like one: a picture that is missing is no question."""
    path = Path(word[:1024])
    return (path.suffix.lower() in PICTURES and " " not in path.suffix) or ("\n" not in word and path.is_file())


def _load(options: AskOptions) -> "tuple[Checkpoint, float]":
    started = time.perf_counter()
    if options.model is None:
        from mlx_llava.embedded import converted

        folder = converted()
    else:
        from mlx_llava.hub import fetch

        folder = fetch(options.model, options.revision)
    from mlx_llava.checkpoint import load

    checkpoint = load(folder)
    return checkpoint, time.perf_counter() - started


def sampling_of(options: AskOptions) -> "Sampling":
    """The sampling that the flags ask for; a seed is drawn where none was given."""
    from mlx_llava.generate import Sampling

    return Sampling(
        max_tokens=options.max_tokens,
        temperature=options.temp,
        top_p=options.top_p,
        top_k=options.top_k,
        min_p=options.min_p,
        repetition_penalty=options.repetition_penalty,
        seed=random.SystemRandom().randrange(2**31) if options.seed is None else options.seed,
    )


def report(
    options: AskOptions, chat: "Chat", pictures: "list[Picture]", sampling: "Sampling", load_seconds: float
) -> dict[str, Any]:
    """What --json prints; seconds, bytes, and counts of tokens."""
    import mlx.core as mx

    answer, tokenizer = chat.answer, chat.checkpoint.tokenizer
    facts: dict[str, Any] = {
        "schema": 1,
        "text": answer.text,
        "finish": answer.finish,
        "counts": {
            "image": answer.image_tokens,
            "prompt": len(answer.prompt_ids),
            "prefilled": answer.prefilled_tokens,
            "output": len(answer.tokens),
        },
        "timing": {
            "load": load_seconds,
            "vision": answer.vision,
            "prefill": answer.prefill,
            "first_token": answer.first_token,
            "tokens_per_second": answer.tokens_per_second,
        },
        "peak_memory": mx.get_peak_memory(),
        "seed": sampling.seed,
        "model": options.model or "embedded",
        "images": [
            {"path": p.name, "sha256": p.identity, "size": list(p.size), "look": options.look} for p in pictures
        ],
    }
    if options.logprobs:
        facts["prompt_ids"] = answer.prompt_ids
        facts["tokens"] = [
            {
                "id": token.id,
                "text": tokenizer.piece(token.id),
                "logprob": token.logprob,
                "top": [{"id": n, "text": tokenizer.piece(n), "logprob": logprob} for n, logprob in token.top],
            }
            for token in answer.tokens
        ]
    return facts


def stats_line(facts: dict[str, Any]) -> str:
    """The counts and times of a report, for a person."""
    counts, timing = facts["counts"], facts["timing"]
    return (
        f"{counts['prompt']} prompt tokens ({counts['image']} of pictures), {counts['output']} out, {facts['finish']}; "
        f"load {timing['load']:.2f} s, vision {timing['vision']:.2f} s, prefill {timing['prefill']:.2f} s, "
        f"first token {timing['first_token']:.2f} s, {timing['tokens_per_second']:.1f} tokens/s; "
        f"peak {facts['peak_memory'] / 1e9:.2f} GB; seed {facts['seed']}"
    )


if __name__ == "__main__":
    main()
