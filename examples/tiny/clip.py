"""Train CLIP on captions and boxes. `python examples/tiny/clip.py OUT FOLDER --tokenizer tokenizer.json`

The loss is the sum of two InfoNCE losses:
- images against captions, as in CLIP;
- patches of the layer that LLaVA reads against words. A patch of a box is matched to the thing's color, noun, size and
  place, the box's middle patch to the phrase of all four as well; patches outside the boxes are matched to "nothing".

The second loss is dense, so the tower learns in minutes, and it keeps in each patch what is there: all LLaVA sees.
"""

import itertools
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import coco
import numpy as np
import tyro
from language import phrase
from scenes import COLORS, NOUNS, PLACES, SIZES, Thing
from sizes import CAPTION, EMBEDDING, IMAGE, VISION  # before MLX: mlx_llava chooses the BLAS
from tokenizers import Tokenizer
from tyro.conf import Positional

import mlx.core as mx  # isort: skip
import mlx.nn as nn  # isort: skip
from mlx.utils import tree_flatten  # isort: skip

from mlx_llava.images.pixels import crop, open_image
from mlx_llava.models.clip import Clip, info_nce
from mlx_llava.training.optimizer import AdamW, OptimizerOptions
from mlx_llava.training.schedule import Schedule

WORDS_FIRST = 0.5  # share of the steps before phrases and captions join: their noise would drown the shapes
NOTHING = "nothing"
SIDE = VISION.image_size // VISION.patch_size
AROUND, EMPTY = 3, 5  # patches sampled at each step: around the middle of a thing, and outside all things of an image
END = 2  # </s>
VOCABULARIES = (COLORS, NOUNS, SIZES, tuple(place for row in PLACES for place in row))


def main(
    out: Positional[Path],
    folder: Positional[Path],
    tokenizer: Path,
    steps: int = 3000,
    batch_size: int = 96,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Write OUT/clip.safetensors, and one line per step to OUT/metrics.jsonl."""
    mx.random.seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    images = coco.read(folder)
    pixels = load_pixels(folder, images)
    words = Tokenizer.from_file(str(tokenizer))
    model = Clip(VISION, CAPTION, EMBEDDING)
    model.vision_model.embeddings.position_embedding.weight = sincos_positions(VISION.hidden_size)
    model.text_model.embeddings.position_embedding.weight *= 0.1
    model.apply_to_modules(preserve_variance)
    optimizer = AdamW(model, OptimizerOptions(learning_rate, weight_decay=0.05, max_grad_norm=1.0))
    schedule = Schedule(steps, 0.03)
    with (out / "metrics.jsonl").open("w") as log:
        for step, numbers in zip(range(steps), batches(len(images), batch_size, seed), strict=False):
            start = time.perf_counter()
            captioned = step >= WORDS_FIRST * steps
            batch = Batch([images[n] for n in numbers], pixels[numbers], words, step, captioned=captioned)
            metrics, gradients = metrics_and_gradients(model, batch)
            optimizer.update(model, gradients, schedule(step))
            pairs, patches, right = (np.round(np.array(x), 4).tolist() for x in metrics)
            row = {"step": step + 1, "pairs": pairs, "patches": patches, "right": right}
            log.write(json.dumps({**row, "seconds": time.perf_counter() - start}) + "\n")
            log.flush()
    mx.save_safetensors(str(out / "clip.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})


def preserve_variance(path: str, module: nn.Module) -> None:
    """Scale a linear layer's initial weights so that outputs have the variance of inputs; MLX starts at a third."""
    if isinstance(module, nn.Linear):
        module.weight = module.weight * 3**0.5


def sincos_positions(width: int) -> mx.array:
    """Initial position embeddings `[1 + SIDE², width]`: zeros for the class token, sines and cosines of row and column.

    Without them, 200 steps did not separate shapes wider than a patch (Beyer et al. 2022, arXiv 2205.01580).
    """
    rates = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    row, column = (index.ravel()[:, None] * rates for index in np.mgrid[:SIDE, :SIDE])
    patches = np.concatenate([np.sin(row), np.cos(row), np.sin(column), np.cos(column)], axis=1)
    return mx.array(np.concatenate([np.zeros((1, width)), patches]).astype(np.float32))


def batches(num_images: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Endless batches of image numbers; every epoch has its own order."""
    random = np.random.default_rng(seed)
    while True:
        order = random.permutation(num_images)
        yield from (order[n : n + batch_size] for n in range(0, num_images - batch_size + 1, batch_size))


def load_pixels(folder: Path, images: list[coco.SceneImage]) -> np.ndarray:
    """The vision tower's input for every image, float16 `[N, side, side, 3]`."""

    def load(image: coco.SceneImage) -> np.ndarray:
        return crop(open_image(folder / coco.IMAGES / image.file_name, "training"), IMAGE).astype(np.float16)

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(load, images)))


class Batch:
    """Pixels; one caption for each image, or None; patches, and the number of each patch's text per vocabulary."""

    def __init__(
        self, images: list[coco.SceneImage], pixels: np.ndarray, words: Tokenizer, seed: int, *, captioned: bool
    ) -> None:
        random = np.random.default_rng(seed)
        self.pixels = mx.array(pixels.astype(np.float32))
        captions = [image.captions[random.integers(len(image.captions))] for image in images]
        self.captions = encode(captions, words) if captioned else None
        phrases = sorted({phrase(thing) for image in images for thing in image.things})
        vocabularies = [[NOTHING, *texts] for texts in ((*VOCABULARIES, phrases) if captioned else VOCABULARIES)]
        patches: list[tuple[int, ...]] = []  # image, patch, and the text's number in each vocabulary
        for n, image in enumerate(images):
            middles, thing_at = locate(image)
            for number, thing in enumerate(image.things):
                targets = [texts.index(t) for texts, t in zip(vocabularies, words_for(thing), strict=False)]
                patches.append((n, middles[number], *targets))
                around = [patch for patch, at in thing_at.items() if at == number and patch not in middles]
                without_phrase = [*targets[: len(VOCABULARIES)], *[0] * captioned]
                patches += [(n, patch, *without_phrase) for patch in random.permutation(around)[:AROUND]]
            nothing = [0] * len(vocabularies)
            empty = [patch for patch in range(SIDE * SIDE) if patch not in thing_at]
            patches += [(n, patch, *nothing) for patch in random.permutation(empty)[:EMPTY]]
        self.texts = encode([text for texts in vocabularies for text in texts], words)
        self.ends = list(itertools.accumulate(map(len, vocabularies)))[:-1]
        self.patches = mx.array(np.array(patches, np.int32).T)


def words_for(thing: Thing) -> tuple[str, ...]:
    """The text in each vocabulary that matches the middle patch of a thing."""
    return thing.color, thing.noun, thing.size, thing.place, phrase(thing)


def locate(image: coco.SceneImage) -> tuple[list[int], dict[int, int]]:
    """The middle patch of each thing, and the thing at each patch: boxes count as discs, the last one drawn wins."""
    edge = max(image.width, image.height)
    middles, thing_at = [], {}
    for number, (left, top, width, height) in enumerate(image.boxes):
        x = (left + width / 2 + (edge - image.width) / 2) / edge * SIDE  # in patches of the padded square
        y = (top + height / 2 + (edge - image.height) / 2) / edge * SIDE
        middles.append(int(y) * SIDE + int(x))
        distances = np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - np.array([y, x])[:, None, None]))
        near = np.flatnonzero(distances.ravel() < width / 2 / edge * SIDE + 0.3)
        thing_at |= dict.fromkeys([*near.tolist(), middles[-1]], number)
    return middles, thing_at


def encode(texts: list[str], words: Tokenizer) -> tuple[mx.array, mx.array]:
    """Token ids `[N, T]` of texts that each end with </s>, zero-padded, and the index of each </s>."""
    ids = [[*encoding.ids, END] for encoding in words.encode_batch(texts)]
    tokens = np.zeros((len(ids), max(map(len, ids))), np.int32)
    for row, line in zip(tokens, ids, strict=True):
        row[: len(line)] = line
    return mx.array(tokens), mx.array([len(line) - 1 for line in ids])


def metrics_and_gradients(model: Clip, batch: Batch) -> tuple[list[mx.array], dict[str, mx.array]]:
    """Both losses with the accuracy in each vocabulary, and the gradients of the summed losses."""

    def loss(weights: dict) -> tuple[mx.array, list[mx.array]]:
        model.update(weights)
        features, *last = model.vision_model(batch.pixels, (-2, -1) if batch.captions else (-2,))
        pairs = mx.array(0.0)
        if batch.captions:
            pairs = info_nce(model.similarity(model.project(last[0][:, 0]), model.texts(*batch.captions)))
        number, patch, *targets = batch.patches
        scores = model.similarity(model.project(features[number, 1 + patch]), model.texts(*batch.texts))
        groups = list(zip(mx.split(scores, batch.ends, axis=1), targets, strict=True))
        patches = mx.stack([mx.fast.cross_entropy(mx.contiguous(g), t).mean() for g, t in groups]).sum()
        num_things = mx.maximum((targets[0] > 0).sum(), 1)  # patches of things
        right = mx.stack([((g.argmax(-1) == t) & (t > 0)).sum() / num_things for g, t in groups])
        return pairs + patches, [pairs, patches, right]

    weights = model.trainable_parameters()
    (_, metrics), gradients = mx.value_and_grad(loss)(weights)
    model.update(weights)
    return metrics, dict(tree_flatten(gradients))


if __name__ == "__main__":
    tyro.cli(main)
