"""One question about each of many small images: `ask --each` beside one `Chat.ask` for each, start-up not counted.

python benchmarks/each.py [IMAGES]

Then the CPU time of a batch by its parts, in one thread if MKL_NUM_THREADS is 1.
"""

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from random import Random

from PIL import Image as PILImage
from PIL import ImageDraw

from mlx_llava import Chat, Image, load
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.inference import generate
from mlx_llava.inference.batches import Question, Reply, answer_all
from mlx_llava.inference.cache import cache_keys
from mlx_llava.inference.generate import Prompt, prefill_batch
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling
from mlx_llava.prompts.templates import Turn

QUESTIONS = ("What color is the circle?", "Is there a square?", "Describe the picture.")
BATCH_SIZES = (8, 32)
SIZE = 160, 120
PARTS = ("open", "tower", "prompt", "prefill", "answer")
COLORS = ("red", "green", "blue", "yellow", "purple")


def main() -> None:
    images = list(pictures(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
    checkpoint = load()
    alone(checkpoint, QUESTIONS[0], images[:2])  # so that nothing is loaded later
    size = f"{SIZE[0]}×{SIZE[1]}"
    print(f"{len(images)} images of {size}, the bundled model; wall and CPU milliseconds for each image.\n")
    print("| question | one call each | " + " | ".join(f"batches of {size}" for size in BATCH_SIZES) + " |")
    print("|---|---" + "|---" * len(BATCH_SIZES) + "|")
    for question in QUESTIONS:
        texts, wall, cpu = timed(partial(alone, checkpoint, question, images))
        cells = [f"{wall:.1f} / {cpu:.1f}"]
        for size in BATCH_SIZES:
            answers, less, cpu = timed(partial(together, Prompter(checkpoint), question, images, size))
            same = sum(a == b for a, b in zip(texts, answers, strict=True))
            cells.append(f"{less:.1f} / {cpu:.1f}: {wall / less:.1f}× as fast, {same} answers equal")
        print(f"| {question} | {' | '.join(cells)} |", flush=True)
    print(f"\nCPU milliseconds for each image in batches of {BATCH_SIZES[0]}, {QUESTIONS[0]!r}:\n")
    for name, milliseconds in parts(Prompter(checkpoint), QUESTIONS[0], images[: 8 * BATCH_SIZES[0]]).items():
        print(f"- {name}: {milliseconds:.1f}")


def pictures(number: int) -> Iterator[bytes]:
    """Distinct PNG files with a shape in each."""
    for seed in range(number):
        random, file = Random(seed), io.BytesIO()
        image = PILImage.new("RGB", SIZE, "white")
        left, top, side = random.randrange(90), random.randrange(50), random.randrange(30, 60)
        shape = random.choice([ImageDraw.ImageDraw.ellipse, ImageDraw.ImageDraw.rectangle])
        shape(ImageDraw.Draw(image), (left, top, left + side, top + side), random.choice(COLORS))
        image.save(file, "PNG")
        yield file.getvalue()


def alone(checkpoint: Checkpoint, question: str, files: Sequence[bytes]) -> list[str]:
    """Answers of a new chat for each image, as a process for each would give them."""
    images = (Image.open(file, str(n)) for n, file in enumerate(files))
    return ["".join(piece.text for piece in Chat(checkpoint).ask(question, [image], Sampling())) for image in images]


def together(prompter: Prompter, question: str, files: Sequence[bytes], batch_size: int) -> list[str]:
    """Answers of `ask --each`, without its files."""
    texts = [""] * len(files)

    def record(number: int, outcome: object) -> None:
        assert isinstance(outcome, Reply)
        texts[number] = outcome.text

    questions = [Question(question, partial(_open, file, n)) for n, file in enumerate(files)]
    answer_all(prompter, questions, Sampling(), batch_size, record)
    return texts


def parts(prompter: Prompter, question: str, files: Sequence[bytes]) -> dict[str, float]:
    """CPU milliseconds for each image: opening, vision tower, prompt, prefill, and the answer after it."""
    import mlx.core as mx  # late: importing mlx_llava loads the fast BLAS first

    model, spent = prompter.checkpoint.model.language_model, dict.fromkeys(PARTS, 0.0)
    for start in range(0, len(files), BATCH_SIZES[0]):
        clock = [time.process_time()]
        images = [Image.open(file, str(n)) for n, file in enumerate(files[start : start + BATCH_SIZES[0]], start)]
        for image in images:
            image.crop(prompter.checkpoint.config.image)
        clock.append(time.process_time())
        prompter.encode_images(images)
        clock.append(time.process_time())
        examples = [prompter.encode([Turn(question, 1)], [image]) for image in images]
        prompts = [
            Prompt(example.tokens.tolist(), prompter.embed(example, [image]), 64, None, cache_keys(example))
            for example, image in zip(examples, images, strict=True)
        ]
        clock.append(time.process_time())
        mx.eval([layer.state for row in prefill_batch(model, prompts) for layer in row])
        clock.append(time.process_time())
        generate.batch(model, prompts, Sampling(), prompter.stop_ids)  # prefills once more
        clock.append(time.process_time())
        for name, (before, after) in zip(PARTS, pairwise(clock), strict=True):
            spent[name] += after - before
    spent["answer"] -= spent["prefill"]
    return {name: seconds * 1e3 / len(files) for name, seconds in spent.items()}


def _open(file: bytes, number: int) -> list[Image]:
    return [Image.open(file, str(number))]


def timed(run: Callable[[], list[str]]) -> tuple[list[str], float, float]:
    """What a run returns, and its wall and CPU milliseconds for each answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = run()
    return texts, (time.perf_counter() - wall) * 1e3 / len(texts), (time.process_time() - cpu) * 1e3 / len(texts)


if __name__ == "__main__":
    main()
