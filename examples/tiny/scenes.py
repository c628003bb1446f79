"""Random scenes: colored shapes and letters, each in a cell of a 3 x 3 grid.

Knows neither pixels nor language. A held-out pair of color and noun occurs in no training scene.
"""

from dataclasses import dataclass
from random import Random

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
LETTERS = tuple("ABEHSX")
NOUNS = (*SHAPES, *(f"letter {letter}" for letter in LETTERS))
SIZES = ("small", "large")
BACKGROUNDS = ("white", "gray", "black", "beige", "pink", "brown")
BRIGHT = ("white", "gray", "beige", "pink")  # lighter than every thing drawn on it: shapes are easier to learn
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the center", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
# One color per shape, each used once: combinations that the model has to compose by itself.
HELD_OUT = frozenset(
    [
        ("red", "cross"),
        ("orange", "heart"),
        ("yellow", "star"),
        ("green", "square"),
        ("blue", "triangle"),
        ("purple", "circle"),
    ]
)
ALIKE = (("white", "white"), ("white", "beige"), ("black", "black"), ("orange", "brown"), ("red", "brown"))


@dataclass(frozen=True)
class Thing:
    """A shape or a letter."""

    color: str
    noun: str
    size: str
    row: int
    column: int

    @property
    def place(self) -> str:
        """`at the top left`."""
        return PLACES[self.row][self.column]

    @property
    def name(self) -> str:
        """`red circle`."""
        return f"{self.color} {self.noun}"


@dataclass(frozen=True)
class Scene:
    """Things on a background."""

    background: str
    things: tuple[Thing, ...]


def sample_scene(random: Random, max_things: int = 5, *, bright: bool = False, held_out: bool = False) -> Scene:
    """A scene of one to `max_things` things; with `held_out`, the first has a pair that no training scene has."""
    background = random.choice(BRIGHT if bright else BACKGROUNDS)
    cells = random.sample(range(9), min(max_things, random.choices((1, 2, 3, 4, 5), (3, 4, 4, 3, 3))[0]))
    colors = [color for color in COLORS if (color, background) not in ALIKE and not (bright and color == "white")]
    things: list[Thing] = []
    for cell in cells:
        if held_out and not things:
            color, noun = random.choice([pair for pair in sorted(HELD_OUT) if pair[0] in colors])
        else:
            color, noun = _training_pair(random, colors, things)
        things.append(Thing(color, noun, random.choice(SIZES), cell // 3, cell % 3))
    return Scene(background, tuple(things))


def _training_pair(random: Random, colors: list[str], things: list[Thing]) -> tuple[str, str]:
    """A color and a noun; each often repeats one of `things`, so that there is something to count."""
    while True:
        color = random.choice(colors)
        noun = random.choice(SHAPES) if random.random() < 0.85 else f"letter {random.choice(LETTERS)}"
        if things and random.random() < 0.35:
            noun = random.choice(things).noun
        if things and random.random() < 0.25:
            color = random.choice(things).color
        if (color, noun) not in HELD_OUT:
            return color, noun
