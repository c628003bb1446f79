"""Scenes in COCO's format: a folder of images, with captions.json and instances.json beside it.

An annotation stores the color and size of its thing as `attributes`; the cell follows from the box.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from scenes import NOUNS, Scene, Thing

IMAGES, CAPTIONS, INSTANCES = "pictures", "captions.json", "instances.json"


@dataclass(frozen=True)
class SceneImage:
    """The file of one image, with its captions and its things."""

    file_name: str
    width: int
    height: int
    background: str
    captions: tuple[str, ...]
    things: tuple[Thing, ...]
    boxes: tuple[tuple[float, float, float, float], ...]  # x, y, width, height in pixels

    @property
    def scene(self) -> Scene:
        """The scene in the image."""
        return Scene(self.background, self.things)


def write(folder: Path, scene_images: list[SceneImage]) -> None:
    """Write captions.json and instances.json."""
    images = [
        {"id": n, "file_name": i.file_name, "width": i.width, "height": i.height, "background": i.background}
        for n, i in enumerate(scene_images)
    ]
    captions = [{"image_id": n, "caption": text} for n, i in enumerate(scene_images) for text in i.captions]
    boxes = [
        {
            "image_id": n,
            "category_id": NOUNS.index(thing.noun),
            "bbox": [round(x, 1) for x in box],
            "attributes": {"color": thing.color, "size": thing.size},
        }
        for n, i in enumerate(scene_images)
        for thing, box in zip(i.things, i.boxes, strict=True)
    ]
    categories = [{"id": n, "name": noun} for n, noun in enumerate(NOUNS)]
    (folder / CAPTIONS).write_text(json.dumps({"images": images, "annotations": captions}))
    (folder / INSTANCES).write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


def read(folder: Path) -> list[SceneImage]:
    """Read captions.json and instances.json of a folder."""
    captions, instances = (json.loads((folder / name).read_text()) for name in (CAPTIONS, INSTANCES))
    nouns = {category["id"]: category["name"] for category in instances["categories"]}
    texts: dict[int, list[str]] = {}
    for annotation in captions["annotations"]:
        texts.setdefault(annotation["image_id"], []).append(annotation["caption"])
    things: dict[int, list[dict]] = {}
    for annotation in instances["annotations"]:
        things.setdefault(annotation["image_id"], []).append(annotation)
    return [_scene_image(image, texts[image["id"]], things[image["id"]], nouns) for image in instances["images"]]


def _scene_image(image: dict, captions: list[str], annotations: list[dict], nouns: dict[int, str]) -> SceneImage:
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
    return SceneImage(image["file_name"], *size, image["background"], tuple(captions), things, boxes)


def _cell(box: list[float], width: int, height: int) -> tuple[int, int]:
    """Row and column of the cell that contains the middle of a box."""
    x, y, box_width, box_height = box
    return int(3 * (y + box_height / 2) / height), int(3 * (x + box_width / 2) / width)
