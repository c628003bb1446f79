"""A scene as a picture, drawn with Pillow: four times too large, then made smaller, so that edges are soft."""

import colorsys
import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scenes import Scene, Thing

SCALE = 4
# Hue, saturation, value: the middle of what we call by the name, and how far it may be from there.
TINTS = {
    "red": ((0.0, 0.88, 0.85), (0.015, 0.10, 0.12)),
    "orange": ((0.08, 0.92, 0.97), (0.012, 0.08, 0.03)),
    "yellow": ((0.15, 0.85, 0.97), (0.012, 0.14, 0.03)),
    "green": ((0.35, 0.80, 0.62), (0.045, 0.18, 0.18)),
    "blue": ((0.61, 0.82, 0.80), (0.030, 0.15, 0.18)),
    "purple": ((0.78, 0.68, 0.62), (0.025, 0.16, 0.15)),
    "black": ((0.0, 0.0, 0.06), (0.5, 0.05, 0.06)),
    "white": ((0.0, 0.0, 0.97), (0.5, 0.02, 0.03)),
    "gray": ((0.0, 0.0, 0.72), (0.5, 0.02, 0.06)),
    "beige": ((0.11, 0.18, 0.90), (0.02, 0.06, 0.05)),
    "pink": ((0.95, 0.28, 0.96), (0.02, 0.06, 0.03)),
    "brown": ((0.07, 0.50, 0.42), (0.01, 0.08, 0.06)),
}
RADII = {"small": (0.095, 0.120), "large": (0.145, 0.190)}  # shares of the shorter edge
FORMATS = ((128, 128),) * 5 + ((160, 128), (128, 160), (160, 120), (120, 160), (96, 96), (192, 192), (224, 224))

Box = tuple[float, float, float, float]


def draw(scene: Scene, chance: Random) -> tuple[Image.Image, list[Box]]:
    """The picture, and the box `(x, y, width, height)` of each thing in pixels."""
    width, height = chance.choice(FORMATS)
    canvas = _background(scene.background, width, height, chance)
    pen = ImageDraw.Draw(canvas)
    outline = _tint("black" if scene.background != "black" else "gray", chance) if chance.random() < 0.15 else None
    boxes = [_thing(pen, thing, (width, height), chance, outline) for thing in scene.things]
    picture = canvas.resize((width, height), Image.Resampling.BOX)
    return _noisy(picture, chance), boxes


def _tint(name: str, chance: Random) -> tuple[int, int, int]:
    (hue, saturation, value), spread = TINTS[name]
    hsv = [x + chance.uniform(-s, s) for x, s in zip((hue, saturation, value), spread, strict=True)]
    rgb = colorsys.hsv_to_rgb(hsv[0] % 1, min(max(hsv[1], 0), 1), min(max(hsv[2], 0), 1))
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def _background(name: str, width: int, height: int, chance: Random) -> Image.Image:
    """One colour, or two of the same name that flow into one another."""
    size = (width * SCALE, height * SCALE)
    plain = Image.new("RGB", size, _tint(name, chance))
    if chance.random() < 0.6:
        return plain
    gradient = Image.linear_gradient("L").rotate(chance.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(plain, Image.new("RGB", size, _tint(name, chance)), gradient)


def _thing(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    size: tuple[int, int],
    chance: Random,
    outline: tuple[int, int, int] | None,
) -> Box:
    """Draw one thing somewhere in its cell, and tell its box."""
    radius = chance.uniform(*RADII[thing.size]) * min(size)
    x, y = (
        min(max((n + 0.5 + chance.uniform(-0.22, 0.22)) * edge / 3, radius + 1), edge - radius - 1)
        for n, edge in zip((thing.column, thing.row), size, strict=True)
    )
    color = _tint(thing.color, chance)
    if thing.noun.startswith("letter "):
        font = ImageFont.load_default(2.6 * radius * SCALE)
        pen.text(
            (x * SCALE, y * SCALE),
            thing.noun[-1],
            fill=color,
            font=font,
            anchor="mm",
            stroke_width=radius * SCALE * 0.08,
            stroke_fill=color,
        )
    else:
        points = outline_of(thing.noun, chance.uniform(-0.2, 0.2))
        place = [((x + radius * px) * SCALE, (y + radius * py) * SCALE) for px, py in points]
        pen.polygon(place, fill=color, outline=outline, width=SCALE if outline else 0)
    return x - radius, y - radius, 2 * radius, 2 * radius


def outline_of(shape: str, angle: float) -> list[tuple[float, float]]:
    """A shape's corners, y downwards, about 1 from the middle, turned by `angle` in radians."""
    turns = [2 * math.pi * n / 48 for n in range(48)]
    wide = 0.36
    points = {
        "circle": [(math.cos(t), math.sin(t)) for t in turns],
        "square": [(s * 0.85, t * 0.85) for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
        "triangle": [(0, -1), (0.97, 0.78), (-0.97, 0.78)],
        "star": [
            ((1.08, 0.45)[n % 2] * math.sin(math.pi * n / 5), -(1.08, 0.45)[n % 2] * math.cos(math.pi * n / 5))
            for n in range(10)
        ],
        # the usual parametric heart: 16 sin³t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t
        "heart": [
            (
                math.sin(t) ** 3,
                -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 - 0.1,
            )
            for t in turns
        ],
        "cross": [
            (s * x, t * y)
            for s, t, first in ((1, -1, True), (1, 1, False), (-1, 1, True), (-1, -1, False))
            for x, y in (((wide, 1), (wide, wide), (1, wide)) if first else ((1, wide), (wide, wide), (wide, 1)))
        ],
    }[shape]
    sine, cosine = math.sin(angle), math.cos(angle)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]


def _noisy(picture: Image.Image, chance: Random) -> Image.Image:
    """Half of the pictures with grain, as cameras have it."""
    if chance.random() < 0.5:
        return picture
    noise = np.random.default_rng(chance.getrandbits(32)).normal(0, chance.uniform(2, 9), (*picture.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))
