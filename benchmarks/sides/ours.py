"""mlx-llava's side. Each function loads the model and measures one thing in this process."""

from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import mlx_llava  # noqa: F401  # first: it loads the BLAS that MLX is to use

# isort: split
import mlx.core as mx
import numpy as np
from mlx_lm.generate import BatchGenerator
from mlx_lm.models.cache import make_prompt_cache
from sides import lesson
from sides.timing import WIDTH, between, clock, fastest, fill, stamps

from mlx_llava.checkpoint.folder import load
from mlx_llava.images.image import Image
from mlx_llava.inference import generate
from mlx_llava.inference.cache import PrefixCache
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.sampling import CacheOptions, Sampling
from mlx_llava.inputs import Example, collate
from mlx_llava.models import lora
from mlx_llava.training import step
from mlx_llava.training.loop import keep_freed_memory
from mlx_llava.training.optimizer import AdamW, OptimizerOptions


def loading(folder: str) -> dict[str, Any]:
    """Seconds from the folder to weights in memory."""
    return {"seconds": fastest(lambda: load(Path(folder)), 1)}


def tower(folder: str, blocks: int, repeats: int) -> dict[str, Any]:
    """Seconds from one picture's pixels to its features, through so many of the tower's blocks."""
    model = load(Path(folder)).model
    encoder = model.vision_tower.encoder
    encoder.layers = encoder.layers[: blocks + 1]  # LLaVA leaves the last one out
    pixels = mx.random.normal((1, 336, 336, 3))
    mx.eval(pixels)
    return {"seconds": fastest(lambda: mx.eval(model.features(pixels)), repeats)}


def prefill(folder: str, rows: int, repeats: int) -> dict[str, Any]:
    """Seconds for a prompt of `rows` positions, up to the logits of the last."""
    model = load(Path(folder)).model.language_model
    embeddings = mx.random.normal((rows, WIDTH)) * 0.02
    mx.eval(embeddings)

    def work() -> None:
        cache = PrefixCache(model, CacheOptions())
        cache.reuse_prefix(range(rows))
        list(generate.stream(model, mx.zeros(rows, mx.int32), embeddings, cache, Sampling(max_tokens=0)))

    return {"seconds": fastest(work, repeats)}


def decode(folder: str, batch: int, tokens: int) -> dict[str, Any]:
    """Seconds for one token of each answer, after a long prompt."""
    model = load(Path(folder)).model.language_model
    embeddings = mx.random.normal((1, WIDTH)) * 0.02
    if batch == 1:
        cache = PrefixCache(model, CacheOptions())
        cache.layers = fill(make_prompt_cache(model))
        steps = generate.stream(model, mx.array([5]), embeddings, cache, Sampling(max_tokens=tokens))
        return {"seconds": between(stamps(steps, tokens))}
    generate._prefill = lambda model, embeddings, layers: fill(layers)
    generate.BatchGenerator = Watched
    generate.batch(model, [Prompt([5], embeddings, tokens)] * batch, Sampling(), ())
    return {"seconds": between(Watched.stamps)}


class Watched(BatchGenerator):
    """Notes when each step of a batch is done."""

    stamps: ClassVar[list[float]] = []

    def next_generated(self) -> Any:
        """The next token of every answer."""
        if responses := super().next_generated():
            self.stamps.append(clock())
        return responses


def second_question(folder: str, image: str, questions: list[str], tokens: int) -> dict[str, Any]:
    """What each of several questions about a picture takes."""
    checkpoint = load(Path(folder))
    chat, asked = Chat(checkpoint), []
    for question in questions:
        began = clock()
        images = [] if asked else [Image.open(image)]
        first = stamps(chat.ask(question, images, Sampling(max_tokens=tokens)), tokens)[0] - began
        asked.append({"prompt": len(chat.answer.prompt_ids), "prefilled": chat.answer.prefilled_tokens, "first": first})
    return {"seconds": asked[-1]["first"], "asked": asked}


def train_step(folder: str, rank: int, steps: int, recompute: bool) -> dict[str, Any]:
    """Seconds of a step of LoRA, of QLoRA where the folder is packed."""
    model = load(Path(folder)).model
    lora.attach(model, lora.Lora(rank, 2.0 * rank, 0.0))
    step.train_only(model, "adapters")
    model.language_model.recompute = recompute
    optimizer = AdamW(model, OptimizerOptions(lesson.RATE))
    ids = lesson.tokens()[0]
    slots = np.where(ids == lesson.IMAGE_ID, np.arange(len(ids)) - lesson.FIRST_ROW, -1).astype(np.int32)
    batch = collate([Example(ids, slots, lesson.answers()[0], lesson.pixels())], lesson.NUM_ROWS)
    keep_freed_memory()
    mx.reset_peak_memory()
    times, losses = [clock()], []
    for _ in range(steps):
        losses.append(step.train_step(model, optimizer, [batch], 1.0).loss)
        times.append(clock())
    return lesson.told(times, losses[0], mx.get_peak_memory())


def layer() -> dict[str, Any]:
    """Milliseconds of one quantized layer for several numbers of rows, packed and unpacked."""
    columns, rows = ["4 bits packed", "4 bits unpacked", "8 bits packed", "8 bits unpacked", "float32"], []
    weight = mx.random.normal((WIDTH, WIDTH))
    packs = {bits: mx.quantize(weight, 64, bits) for bits in (4, 8)}
    mx.eval(weight, packs)
    for count in (1, 2, 3, 4, 8, 16, 256):
        x, works = mx.random.normal((count, WIDTH)), []
        mx.eval(x)
        for bits, pack in packs.items():
            works.append(partial(mx.quantized_matmul, x, *pack, bits=bits))
            works.append(partial(lambda x, pack, bits: x @ mx.dequantize(*pack, bits=bits).T, x, pack, bits))
        works.append(partial(mx.matmul, x, weight.T))
        rows.append(
            (count, [1e3 * fastest(lambda work=work: mx.eval(work()), 20 if count < 100 else 3) for work in works])
        )
    return {"seconds": 0, "columns": columns, "rows": rows}
