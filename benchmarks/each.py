"""One question about each of many small images: `ask --each` beside one `Chat.ask` for each, start-up not counted.

python benchmarks/each.py [IMAGES]
"""

import io
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from random import Random

from PIL import Image as PILImage
from PIL import ImageDraw

from mlx_llava import Chat, Image, load
from mlx_llava.checkpoint.folder import Checkpoint
from mlx_llava.inference.batches import Question, Reply, answer_all
from mlx_llava.inference.prompter import Prompter
from mlx_llava.inference.sampling import Sampling

QUESTIONS = ("What color is the circle?", "Is there a square?", "Describe the picture.")
BATCH_SIZES = (8, 32)
SIZE = 160, 120
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


def _open(file: bytes, number: int) -> list[Image]:
    return [Image.open(file, str(number))]


def timed(run: Callable[[], list[str]]) -> tuple[list[str], float, float]:
    """What a run returns, and its wall and CPU milliseconds for each answer."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = run()
    return texts, (time.perf_counter() - wall) * 1e3 / len(texts), (time.process_time() - cpu) * 1e3 / len(texts)


if __name__ == "__main__":
    main()
