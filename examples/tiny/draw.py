"""Draw scenes: pictures, captions and boxes. `python examples/tiny/draw.py OUT --scenes 1000 --seed 1`"""

from pathlib import Path
from random import Random

import coco
import tyro
from drawing import draw
from language import caption
from scenes import draw_scene
from tyro.conf import Positional


def main(out: Positional[Path], scenes: int = 1000, seed: int = 1, things: int = 5, held_out: bool = False) -> None:
    """Draw bright pictures of so many things at most; with --held-out each shows a pair that training never does."""
    (out / coco.PICTURES).mkdir(parents=True, exist_ok=True)
    pictures = []
    for number in range(scenes):
        chance = Random(f"{seed} {number}")
        scene = draw_scene(chance, things, bright=True, held_out=held_out)
        image, boxes = draw(scene, chance)
        name = f"{number:06d}.png"
        image.save(out / coco.PICTURES / name)
        captions = (caption(scene, chance), caption(scene, chance))
        pictures.append(coco.Picture(name, *image.size, scene.background, captions, scene.things, tuple(boxes)))
    coco.write(out, pictures)


if __name__ == "__main__":
    tyro.cli(main)
