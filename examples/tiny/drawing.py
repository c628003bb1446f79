"""Draw a scene with Pillow, at four times its size and then reduced, so that edges are smooth."""

import colorsys
import math
from random import Random

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scenes import Scene, Thing

SCALE = 4
# Hue, saturation and value of each color: the mean, and the largest deviation from it.
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


def draw(scene: Scene, random: Random) -> tuple[Image.Image, list[Box]]:
    """The image, and the box `(x, y, width, height)` of each thing in pixels."""
    width, height = random.choice(FORMATS)
    canvas = _background(scene.background, width, height, random)
    pen = ImageDraw.Draw(canvas)
    outline = _tint("black" if scene.background != "black" else "gray", random) if random.random() < 0.15 else None
    boxes = [_draw_thing(pen, thing, (width, height), random, outline) for thing in scene.things]
    return _add_noise(canvas.resize((width, height), Image.Resampling.BOX), random), boxes


def _tint(name: str, random: Random) -> tuple[int, int, int]:
    (hue, saturation, value), spread = TINTS[name]
    hsv = [x + random.uniform(-s, s) for x, s in zip((hue, saturation, value), spread, strict=True)]
    rgb = colorsys.hsv_to_rgb(hsv[0] % 1, min(max(hsv[1], 0), 1), min(max(hsv[2], 0), 1))
    return round(255 * rgb[0]), round(255 * rgb[1]), round(255 * rgb[2])


def _background(name: str, width: int, height: int, random: Random) -> Image.Image:
    """A plain background, or a gradient between two tints of the same color."""
    size = (width * SCALE, height * SCALE)
    plain = Image.new("RGB", size, _tint(name, random))
    if random.random() < 0.6:
        return plain
    gradient = Image.linear_gradient("L").rotate(random.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(plain, Image.new("RGB", size, _tint(name, random)), gradient)


def _draw_thing(
    pen: ImageDraw.ImageDraw,
    thing: Thing,
    size: tuple[int, int],
    random: Random,
    outline: tuple[int, int, int] | None,
) -> Box:
    """Draw a thing at a random position in its cell; returns its box."""
    radius = random.uniform(*RADII[thing.size]) * min(size)
    x, y = (
        min(max((n + 0.5 + random.uniform(-0.22, 0.22)) * edge / 3, radius + 1), edge - radius - 1)
        for n, edge in zip((thing.column, thing.row), size, strict=True)
    )
    color = _tint(thing.color, random)
    if thing.noun.startswith("letter "):
        font = ImageFont.load_default(2.6 * radius * SCALE)
        stroke = {"stroke_width": radius * SCALE * 0.08, "stroke_fill": color}
        pen.text((x * SCALE, y * SCALE), thing.noun[-1], fill=color, font=font, anchor="mm", **stroke)
    else:
        corners = polygon(thing.noun, random.uniform(-0.2, 0.2))
        points = [((x + radius * px) * SCALE, (y + radius * py) * SCALE) for px, py in corners]
        pen.polygon(points, fill=color, outline=outline, width=SCALE if outline else 0)
    return x - radius, y - radius, 2 * radius, 2 * radius


def polygon(shape: str, angle: float) -> list[tuple[float, float]]:
    """Corners of a shape of radius about 1 around the origin, y downwards, rotated by `angle` radians."""
    turns = [2 * math.pi * n / 48 for n in range(48)]
    arm = 0.36  # half the width of the cross's arms
    points = {
        "circle": [(math.cos(t), math.sin(t)) for t in turns],
        "square": [(s * 0.85, t * 0.85) for s, t in ((-1, -1), (1, -1), (1, 1), (-1, 1))],
        "triangle": [(0, -1), (0.97, 0.78), (-0.97, 0.78)],
        "star": [
            ((1.08, 0.45)[n % 2] * math.sin(math.pi * n / 5), -(1.08, 0.45)[n % 2] * math.cos(math.pi * n / 5))
            for n in range(10)
        ],
        # parametric heart curve: 16 sin³t, 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t
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
            for x, y in (((arm, 1), (arm, arm), (1, arm)) if first else ((1, arm), (arm, arm), (arm, 1)))
        ],
    }[shape]
    sine, cosine = math.sin(angle), math.cos(angle)
    return [(x * cosine - y * sine, x * sine + y * cosine) for x, y in points]


def _add_noise(image: Image.Image, random: Random) -> Image.Image:
    """Add Gaussian noise to half of the images, like the grain of a camera."""
    if random.random() < 0.5:
        return image
    noise = np.random.default_rng(random.getrandbits(32)).normal(0, random.uniform(2, 9), (*image.size[::-1], 3))
    return Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
