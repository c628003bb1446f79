"""What is in a picture: some coloured shapes and letters, each in a cell of a 3 x 3 grid, drawn by chance.

Knows neither pixels nor language. A pair of colour and noun that is held out occurs in no training scene.
"""

from dataclasses import dataclass
from random import Random

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "black", "white")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
LETTERS = tuple("ABEHSX")
NOUNS = (*SHAPES, *(f"letter {letter}" for letter in LETTERS))
SIZES = ("small", "large")
BACKGROUNDS = ("white", "gray", "black", "beige", "pink", "brown")
BRIGHT = ("white", "gray", "beige", "pink")  # everything drawn is darker: shapes are easier to learn
PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("on the left", "in the center", "on the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
# One colour for each shape, none twice: what the model has to put together by itself.
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
        """Where it is, in words."""
        return PLACES[self.row][self.column]

    @property
    def name(self) -> str:
        """What it is: `red circle`."""
        return f"{self.color} {self.noun}"


@dataclass(frozen=True)
class Scene:
    """The things of a picture, and what they lie on."""

    background: str
    things: tuple[Thing, ...]


def draw_scene(chance: Random, most: int = 5, *, bright: bool = False, held_out: bool = False) -> Scene:
    """A scene of one to `most` things; with `held_out` the first of them is a pair that training never shows."""
    background = chance.choice(BRIGHT if bright else BACKGROUNDS)
    cells = chance.sample(range(9), min(most, chance.choices((1, 2, 3, 4, 5), (3, 4, 4, 3, 3))[0]))
    colors = [color for color in COLORS if (color, background) not in ALIKE and not (bright and color == "white")]
    things: list[Thing] = []
    for cell in cells:
        if held_out and not things:
            color, noun = chance.choice([pair for pair in sorted(HELD_OUT) if pair[0] in colors])
        else:
            color, noun = _seen_pair(chance, colors, things)
        things.append(Thing(color, noun, chance.choice(SIZES), cell // 3, cell % 3))
    return Scene(background, tuple(things))


def _seen_pair(chance: Random, colors: list[str], things: list[Thing]) -> tuple[str, str]:
    """A colour and a noun; often one of them again, so that counting has something to count."""
    while True:
        color = chance.choice(colors)
        noun = chance.choice(SHAPES) if chance.random() < 0.85 else f"letter {chance.choice(LETTERS)}"
        if things and chance.random() < 0.35:
            noun = chance.choice(things).noun
        if things and chance.random() < 0.25:
            color = chance.choice(things).color
        if (color, noun) not in HELD_OUT:
            return color, noun
