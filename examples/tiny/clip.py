"""Train CLIP on captions and boxes. `python examples/tiny/clip.py OUT FOLDER --tokenizer tokenizer.json`

Two losses by InfoNCE: each picture with its caption, as CLIP has it; and, from the layer that LLaVA reads, patches of
each box with the words for its thing, other patches with "nothing". The words are its colour, its noun, its size, its
place, and, for the patch in the middle alone, the phrase of all four. This loss is dense, so that the tower learns in
minutes, and it leaves in the patches what is where, which is all that LLaVA will see.
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
from sizes import CAPTIONS, EMBEDDING, PICTURE, VISION  # before MLX: mlx_llava chooses the BLAS
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
AROUND, BARE = 3, 5  # patches around a middle, and without a thing, that are named at each step
END = 2  # </s>
ALL_WORDS = (COLORS, NOUNS, SIZES, tuple(place for row in PLACES for place in row))


def main(
    out: Positional[Path],
    folder: Positional[Path],
    tokenizer: Path,
    steps: int = 3000,
    batch_size: int = 96,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Write OUT/clip.safetensors, and OUT/metrics.jsonl on the way."""
    mx.random.seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    pictures = coco.read(folder)
    pixels = load_all(folder, pictures)
    words = Tokenizer.from_file(str(tokenizer))
    model = Clip(VISION, CAPTIONS, EMBEDDING)
    model.vision_model.embeddings.position_embedding.weight = waves(VISION.hidden_size)
    model.text_model.embeddings.position_embedding.weight *= 0.1
    model.apply_to_modules(widen)
    optimizer = AdamW(model, OptimizerOptions(learning_rate, weight_decay=0.05, max_grad_norm=1.0))
    schedule = Schedule(steps, 0.03)
    with (out / "metrics.jsonl").open("w") as log:
        for step, chosen in zip(range(steps), batches(len(pictures), batch_size, seed), strict=False):
            start = time.perf_counter()
            whole = step >= WORDS_FIRST * steps
            batch = Batch([pictures[n] for n in chosen], pixels[chosen], words, step, whole=whole)
            losses, gradients = gradients_of(model, batch)
            optimizer.update(model, gradients, schedule(step))
            pairs, patches, right = (np.round(np.array(x), 4).tolist() for x in losses)
            row = {"step": step + 1, "pairs": pairs, "patches": patches, "right": right}
            log.write(json.dumps({**row, "seconds": time.perf_counter() - start}) + "\n")
            log.flush()
    mx.save_safetensors(str(out / "clip.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})


def widen(path: str, module: nn.Module) -> None:
    """Let a linear layer begin with outputs as large as its inputs; MLX's begin at a third of their variance."""
    if isinstance(module, nn.Linear):
        module.weight = module.weight * 3**0.5


def waves(width: int) -> mx.array:
    """Where position embeddings begin: sines and cosines of row and column, so that neighbours know each other.

    Without them shapes wider than a patch were not told apart after 200 steps (Beyer et al. 2022, arXiv 2205.01580).
    """
    rates = 1 / 100 ** (np.arange(width // 4) / (width // 4))
    row, column = (place.ravel()[:, None] * rates for place in np.mgrid[:SIDE, :SIDE])
    patches = np.concatenate([np.sin(row), np.cos(row), np.sin(column), np.cos(column)], axis=1)
    return mx.array(np.concatenate([np.zeros((1, width)), patches]).astype(np.float32))


def batches(size: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Numbers of pictures, every epoch in another order, without end."""
    chance = np.random.default_rng(seed)
    while True:
        order = chance.permutation(size)
        yield from (order[n : n + batch_size] for n in range(0, size - batch_size + 1, batch_size))


def load_all(folder: Path, pictures: list[coco.Picture]) -> np.ndarray:
    """Every picture as the tower sees it, in half precision: [N, side, side, 3]."""

    def load(picture: coco.Picture) -> np.ndarray:
        return crop(open_image(folder / coco.PICTURES / picture.file_name, "training"), PICTURE).astype(np.float16)

    with ThreadPoolExecutor(2) as pool:
        return np.stack(list(pool.map(load, pictures)))


class Batch:
    """Pictures with a caption each, and patches with a phrase each."""

    def __init__(
        self, pictures: list[coco.Picture], pixels: np.ndarray, words: Tokenizer, seed: int, *, whole: bool
    ) -> None:
        chance = np.random.default_rng(seed)
        self.pixels = mx.array(pixels.astype(np.float32))
        captions = [picture.captions[chance.integers(len(picture.captions))] for picture in pictures]
        self.captions = encode(captions, words) if whole else None
        phrases = sorted({phrase(thing) for picture in pictures for thing in picture.things})
        vocabularies = [[NOTHING, *texts] for texts in ((*ALL_WORDS, phrases) if whole else ALL_WORDS)]
        patches: list[tuple[int, ...]] = []  # picture, patch, and in each vocabulary the number of the text
        for n, picture in enumerate(pictures):
            middles, covered = places(picture)
            for number, thing in enumerate(picture.things):
                targets = [texts.index(t) for texts, t in zip(vocabularies, words_for(thing), strict=False)]
                patches.append((n, middles[number], *targets))
                around = [patch for patch, shown in covered.items() if shown == number and patch not in middles]
                named = [*targets[: len(ALL_WORDS)], *[0] * whole]
                patches += [(n, patch, *named) for patch in chance.permutation(around)[:AROUND]]
            none = [0] * len(vocabularies)
            bare = [patch for patch in range(SIDE * SIDE) if patch not in covered]
            patches += [(n, patch, *none) for patch in chance.permutation(bare)[:BARE]]
        self.texts = encode([text for texts in vocabularies for text in texts], words)
        self.ends = list(itertools.accumulate(map(len, vocabularies)))[:-1]
        self.patches = mx.array(np.array(patches, np.int32).T)


def words_for(thing: Thing) -> tuple[str, ...]:
    """What a patch in the middle of a thing goes with, in each vocabulary."""
    return thing.color, thing.noun, thing.size, thing.place, phrase(thing)


def places(picture: coco.Picture) -> tuple[list[int], dict[int, int]]:
    """The patch in the middle of each thing, and which thing each patch shows: the last drawn, seen as a disc."""
    edge = max(picture.width, picture.height)
    middles, covered = [], {}
    for number, (left, top, width, height) in enumerate(picture.boxes):
        x = (left + width / 2 + (edge - picture.width) / 2) / edge * SIDE  # in patches of the padded square
        y = (top + height / 2 + (edge - picture.height) / 2) / edge * SIDE
        middles.append(int(y) * SIDE + int(x))
        away = np.hypot(*(np.mgrid[:SIDE, :SIDE] + 0.5 - np.array([y, x])[:, None, None]))
        near = np.flatnonzero(away.ravel() < width / 2 / edge * SIDE + 0.3)
        covered |= dict.fromkeys([*near.tolist(), middles[-1]], number)
    return middles, covered


def encode(texts: list[str], words: Tokenizer) -> tuple[mx.array, mx.array]:
    """Texts as rows of tokens that end with </s>, and where each ends."""
    ids = [[*encoding.ids, END] for encoding in words.encode_batch(texts)]
    tokens = np.zeros((len(ids), max(map(len, ids))), np.int32)
    for row, line in zip(tokens, ids, strict=True):
        row[: len(line)] = line
    return mx.array(tokens), mx.array([len(line) - 1 for line in ids])


def gradients_of(model: Clip, batch: Batch) -> tuple[list[mx.array], dict[str, mx.array]]:
    """Both losses, the share of things named rightly in each vocabulary, and the gradients of the sum."""

    def loss(weights: dict) -> tuple[mx.array, list[mx.array]]:
        model.update(weights)
        read, *last = model.vision_model(batch.pixels, (-2, -1) if batch.captions else (-2,))
        pairs = mx.array(0.0)
        if batch.captions:
            pairs = info_nce(model.similarity(model.project(last[0][:, 0]), model.texts(*batch.captions)))
        number, patch, *targets = batch.patches
        scores = model.similarity(model.project(read[number, 1 + patch]), model.texts(*batch.texts))
        groups = mx.split(scores, batch.ends, axis=1)
        pairs_of = list(zip(groups, targets, strict=True))
        patches = mx.stack([mx.fast.cross_entropy(mx.contiguous(g), t).mean() for g, t in pairs_of]).sum()
        shown = mx.maximum((targets[0] > 0).sum(), 1)  # patches that show something
        right = mx.stack([((g.argmax(-1) == t) & (t > 0)).sum() / shown for g, t in pairs_of])
        return pairs + patches, [pairs, patches, right]

    weights = model.trainable_parameters()
    (_, losses), gradients = mx.value_and_grad(loss)(weights)
    model.update(weights)
    return losses, dict(tree_flatten(gradients))


if __name__ == "__main__":
    tyro.cli(main)
