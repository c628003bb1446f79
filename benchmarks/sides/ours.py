"""mlx-llava's side. Each function loads the model and takes one measurement in this process."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import mlx_llava  # noqa: F401  # first: it loads the BLAS for MLX

# isort: split
import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten
from sides import conversation, small_tower
from sides.noise import fill
from sides.timing import WIDTH, between, clock, prefilled, stamps, typical

from mlx_llava.checkpoint.folder import Checkpoint, load
from mlx_llava.config import VisionConfig
from mlx_llava.images.image import Image
from mlx_llava.inference import generate
from mlx_llava.inference.cache import PrefixCache
from mlx_llava.inference.chat import Chat
from mlx_llava.inference.decode import Choice, Rows
from mlx_llava.inference.generate import Prompt
from mlx_llava.inference.sampling import CacheOptions, Sampling
from mlx_llava.inputs import Example, ImageSpan, collate
from mlx_llava.models import cpu_layers, lora
from mlx_llava.models.backend import dequantize_slow_layers
from mlx_llava.models.clip import VisionTower
from mlx_llava.models.llama import forward
from mlx_llava.models.mlx_lm_parts import make_prompt_cache
from mlx_llava.training import step
from mlx_llava.training.loop import keep_freed_memory
from mlx_llava.training.optimizer import AdamW, OptimizerOptions, trainable
from mlx_llava.training.recompute import recompute_block

LAYER_ROWS = (1, 2, 3, 4, 8, 16, 32, 256)


def _load(folder: str) -> Checkpoint:
    """The checkpoint as `mlx-llava ask` loads it."""
    checkpoint = load(Path(folder))
    dequantize_slow_layers(checkpoint.model)
    return checkpoint


def loading(folder: str) -> dict[str, Any]:
    """Seconds to load the weights into memory."""
    return {"seconds": typical(lambda: _load(folder), 1)}


def tower(folder: str, blocks: int, repeats: int) -> dict[str, Any]:
    """Seconds from an image's pixels to its features, through `blocks` blocks of the tower."""
    model = _load(folder).model
    encoder = model.vision_tower.encoder
    encoder.layers = encoder.layers[: blocks + 1]  # LLaVA skips the last one
    pixels = np.random.default_rng(0).normal(size=(1, 336, 336, 3)).astype(np.float32)
    return {"seconds": typical(lambda: mx.eval(model.features(model.vision_states(pixels))), repeats)}


def prefill(folder: str, rows: int) -> dict[str, Any]:
    """Seconds to prefill `rows` positions, up to the logits of the last."""
    model = _load(folder).model.language_model
    embeddings = mx.random.normal((rows, WIDTH)) * 0.02
    mx.eval(embeddings)

    def work(rows: int) -> None:
        cache = PrefixCache(model, CacheOptions())
        cache.reuse_prefix(range(rows))
        list(generate.stream(mx.zeros(rows, mx.int32), embeddings[:rows], cache, Sampling(max_tokens=0)))
        mx.synchronize()  # the last position is computed in the background

    return {"seconds": prefilled(work, rows)}


def decode(folder: str, batches: list[tuple[int, int]]) -> dict[str, Any]:
    """Seconds per decoding step after a long prompt, for each batch size and number of tokens."""
    model = _load(folder).model.language_model
    return {"steps": [_step(model, batch, tokens) for batch, tokens in batches]}


def _step(model: Any, batch: int, tokens: int) -> float:
    embeddings = mx.random.normal((1, WIDTH)) * 0.02
    if batch == 1:
        cache = PrefixCache(model, CacheOptions())
        cache.layers = fill(make_prompt_cache(model))
        steps = generate.stream(mx.array([5]), embeddings, cache, Sampling(max_tokens=tokens))
        return between(stamps(steps, tokens))
    generate.prefill_batch = lambda model, prompts: [fill(make_prompt_cache(model)) for _ in prompts]
    generate.Rows = TimedRows
    TimedRows.stamps.clear()
    generate.batch(model, [Prompt([5], embeddings, tokens)] * batch, Sampling(), ())
    return between(TimedRows.stamps[2:])


class TimedRows(Rows):
    """Records the time at which each step of a batch starts; the first two do not wait for another."""

    stamps: ClassVar[list[float]] = []

    def step(self, ids: mx.array, embeddings: mx.array | None = None) -> Choice:
        """The next token of every answer."""
        self.stamps.append(clock())
        return super().step(ids, embeddings)


def second_question(folder: str, image: str, questions: list[str], tokens: int) -> dict[str, Any]:
    """Prompt tokens, prefilled tokens and seconds to the first token of each question about an image."""
    checkpoint = _load(folder)
    chat, results = Chat(checkpoint), []
    for question in questions:
        start = clock()
        images = [] if results else [Image.open(image)]
        first = stamps(chat.ask(question, images, Sampling(max_tokens=tokens)), tokens)[0] - start
        answer = chat.answer
        results.append({"prompt": len(answer.prompt_ids), "prefilled": answer.prefilled_tokens, "first": first})
    return {"seconds": results[-1]["first"], "questions": results}


def train_step(folder: str, rank: int, steps: int, recompute: bool) -> dict[str, Any]:
    """Seconds of a LoRA step, or of a QLoRA step if the folder is quantized."""
    model = load(Path(folder)).model
    lora.attach(model, lora.Lora(rank, 2.0 * rank, 0.0))
    step.train_only(model, "adapters")
    run_block = recompute_block if recompute else forward
    optimizer = AdamW(model, OptimizerOptions(conversation.RATE))
    ids = conversation.tokens()[0]
    slots = np.where(ids == conversation.IMAGE_ID, np.arange(len(ids)) - conversation.FIRST_ROW, -1).astype(np.int32)
    image = ImageSpan("", conversation.FIRST_ROW, 0, conversation.NUM_ROWS)
    batch = collate([Example(ids, slots, conversation.answers()[0], conversation.pixels(), (image,))])
    keep_freed_memory()
    mx.reset_peak_memory()
    times, losses = [clock()], []
    for _ in range(steps):
        losses.append(step.train_step(model, optimizer, [batch], 1.0, run_block=run_block).loss)
        times.append(clock())
    return conversation.report(times, losses[0], mx.get_peak_memory())


class SmallTower(nn.Module):
    """A vision tower with a linear head on each patch."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = VisionTower(VisionConfig(**small_tower.CONFIG))
        self.head = nn.Linear(small_tower.CONFIG["hidden_size"], small_tower.CLASSES, bias=False)
        for name, x in trainable(self.tower).items():
            shape = x.shape if x.ndim < 4 else (x.shape[0], x.shape[3], *x.shape[1:3])
            weight = small_tower.weight(name, shape)
            weight = weight if x.ndim < 4 else np.moveaxis(weight, 1, -1)
            self.tower.load_weights([(name, mx.array(weight))], strict=False)
        self.head.weight = mx.array(small_tower.weight(small_tower.HEAD, self.head.weight.shape))

    def __call__(self, pixels: mx.array) -> mx.array:
        return self.head(self.tower(pixels, (-1,))[0][:, 1:])


def tower_step(steps: int) -> dict[str, Any]:
    """Seconds of a step that trains the small tower."""
    model = SmallTower()
    optimizer = AdamW(model, OptimizerOptions(small_tower.RATE))
    pixels, labels = mx.array(small_tower.pixels()), mx.array(small_tower.labels())
    loss_and_gradients = nn.value_and_grad(model, lambda: mx.fast.cross_entropy(model(pixels), labels).mean())
    keep_freed_memory()
    times, losses = [clock()], []
    for _ in range(steps):
        loss, gradients = loss_and_gradients()
        optimizer.update(model, dict(tree_flatten(gradients)), 1.0)
        losses.append(loss.item())
        times.append(clock())
    return {"seconds": between(times[1:]), "loss": losses[0]}


def layer() -> dict[str, Any]:
    """Milliseconds of one layer by number of rows: float32, and for 8 and 4 bits three ways to multiply."""
    plain = nn.Linear(WIDTH, WIDTH, bias=False)
    works: dict[str, Callable[[mx.array], mx.array]] = {"float32": plain}
    for bits in (8, 4):
        quantized = nn.QuantizedLinear.from_linear(plain, 64, bits)
        works[f"{bits} bits: ours"] = cpu_layers.for_cpu(quantized).eval()
        works[f"{bits} bits: quantized_matmul"] = quantized
        works[f"{bits} bits: dequantize, multiply"] = partial(_dequantize_and_multiply, quantized)
        mx.eval(quantized.parameters())
    rows = [(count, [1e3 * _row_seconds(work, count) for work in works.values()]) for count in LAYER_ROWS]
    return {"seconds": 0, "columns": list(works), "rows": rows}


def _dequantize_and_multiply(layer: nn.QuantizedLinear, x: mx.array) -> mx.array:
    return x @ mx.dequantize(layer.weight, layer.scales, layer.biases, bits=layer.bits).T


def _row_seconds(work: Callable[[mx.array], mx.array], count: int) -> float:
    x = mx.random.normal((count, WIDTH))
    mx.eval(x)
    return typical(lambda: mx.eval(work(x)), 20 if count < 100 else 4)
