"""Draw scenes: images, captions and boxes. `python examples/tiny/draw.py OUT --scenes 1000 --seed 1`"""

from pathlib import Path
from random import Random

import coco
import tyro
from drawing import draw
from language import caption
from scenes import sample_scene
from tyro.conf import Positional


def main(out: Positional[Path], scenes: int = 1000, seed: int = 1, things: int = 5, held_out: bool = False) -> None:
    """Draw bright scenes of up to `things` things; with --held-out, each has a pair that no training scene has."""
    (out / coco.IMAGES).mkdir(parents=True, exist_ok=True)
    images = []
    for number in range(scenes):
        random = Random(f"{seed} {number}")
        scene = sample_scene(random, things, bright=True, held_out=held_out)
        image, boxes = draw(scene, random)
        name = f"{number:06d}.png"
        image.save(out / coco.IMAGES / name)
        captions = (caption(scene, random), caption(scene, random))
        images.append(coco.SceneImage(name, *image.size, scene.background, captions, scene.things, tuple(boxes)))
    coco.write(out, images)


if __name__ == "__main__":
    tyro.cli(main)
