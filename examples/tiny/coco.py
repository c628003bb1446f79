"""Scenes as COCO keeps them: pictures in a folder, captions.json and instances.json beside it.

An annotation has the colour and the size of its thing as `attributes`; which cell it is in, its box tells.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from scenes import NOUNS, Scene, Thing

PICTURES, CAPTIONS, INSTANCES = "pictures", "captions.json", "instances.json"


@dataclass(frozen=True)
class Picture:
    """A picture, what is said of it, and what is in it."""

    file_name: str
    width: int
    height: int
    background: str
    captions: tuple[str, ...]
    things: tuple[Thing, ...]
    boxes: tuple[tuple[float, float, float, float], ...]  # x, y, width, height in pixels

    @property
    def scene(self) -> Scene:
        """What it shows."""
        return Scene(self.background, self.things)


def write(folder: Path, pictures: list[Picture]) -> None:
    """Write captions.json and instances.json."""
    images = [
        {"id": n, "file_name": p.file_name, "width": p.width, "height": p.height, "background": p.background}
        for n, p in enumerate(pictures)
    ]
    captions = [{"image_id": n, "caption": text} for n, p in enumerate(pictures) for text in p.captions]
    boxes = [
        {
            "image_id": n,
            "category_id": NOUNS.index(thing.noun),
            "bbox": [round(x, 1) for x in box],
            "attributes": {"color": thing.color, "size": thing.size},
        }
        for n, p in enumerate(pictures)
        for thing, box in zip(p.things, p.boxes, strict=True)
    ]
    categories = [{"id": n, "name": noun} for n, noun in enumerate(NOUNS)]
    (folder / CAPTIONS).write_text(json.dumps({"images": images, "annotations": captions}))
    (folder / INSTANCES).write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def read(folder: Path) -> list[Picture]:
    """Read what `write` wrote."""
    captions, instances = (json.loads((folder / name).read_text()) for name in (CAPTIONS, INSTANCES))
    nouns = {category["id"]: category["name"] for category in instances["categories"]}
    said: dict[int, list[str]] = {}
    for annotation in captions["annotations"]:
        said.setdefault(annotation["image_id"], []).append(annotation["caption"])
    shown: dict[int, list[dict]] = {}
    for annotation in instances["annotations"]:
        shown.setdefault(annotation["image_id"], []).append(annotation)
    return [_picture(image, said[image["id"]], shown[image["id"]], nouns) for image in instances["images"]]


def _picture(image: dict, captions: list[str], annotations: list[dict], nouns: dict[int, str]) -> Picture:
    things = tuple(
        Thing(
            annotation["attributes"]["color"],
            nouns[annotation["category_id"]],
            annotation["attributes"]["size"],
            *_cell(annotation["bbox"], image["width"], image["height"]),
        )
        for annotation in annotations
    )
    boxes = tuple(tuple(annotation["bbox"]) for annotation in annotations)
    size = (image["width"], image["height"])
    return Picture(image["file_name"], *size, image["background"], tuple(captions), things, boxes)


def _cell(box: list[float], width: int, height: int) -> tuple[int, int]:
    """Row and column of the middle of a box."""
    x, y, across, down = box
    return int(3 * (y + down / 2) / height), int(3 * (x + across / 2) / width)
