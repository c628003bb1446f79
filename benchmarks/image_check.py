"""Seconds of opening every image before the first training step: 3,000 JPEGs of 640x480, then again, remembered."""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from harness import table
from PIL import Image

from mlx_llava.checkpoint.hub import EMBEDDED
from mlx_llava.data.examples import Examples
from mlx_llava.data.image_check import with_readable_images
from mlx_llava.resolve import open_model
from mlx_llava.training.examples import read_examples
from mlx_llava.training.options import LoraOptions

WIDTH, HEIGHT, CELL = 640, 480, 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLX_LLAVA_HOME"] = f"{folder}/home"
        examples = conversations(Path(folder), arguments.images)
        rows = [(kind, f"{seconds(examples, arguments.workers):.1f}") for kind in ("first run", "later runs")]
    print(f"{arguments.images} JPEGs of {WIDTH} x {HEIGHT}, {arguments.workers} workers, {os.cpu_count()} cores\n")
    table(("", "seconds"), rows)


def conversations(folder: Path, count: int) -> Examples:
    """A conversation about each of `count` images with the detail of photos: smooth areas under noise."""
    random = np.random.default_rng(0)
    said = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "noise"}]
    for n in range(count):
        cells = random.integers(0, 256, (HEIGHT // CELL, WIDTH // CELL, 3), np.uint8)
        smooth = np.asarray(Image.fromarray(cells).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), np.int16)
        noisy = smooth + random.integers(-12, 13, smooth.shape, np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{n}.jpg", quality=90)
    data = folder / "train.json"
    data.write_text(json.dumps([{"image": f"{n}.jpg", "conversations": said} for n in range(count)]))
    options = LoraOptions(data=data, images=folder, adapter_path=folder)
    checkpoint = open_model(EMBEDDED)
    return read_examples(options, checkpoint.config, checkpoint.tokenizer, "train")


def seconds(examples: Examples, num_workers: int) -> float:
    start = time.perf_counter()
    with_readable_images(examples, num_workers=num_workers, report=lambda done, total: None)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
