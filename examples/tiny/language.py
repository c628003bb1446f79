"""Captions of a scene, and questions with their answers, by kind.

Every question has exactly one right answer, and names a held-out pair of color and noun only if the scene has it.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from scenes import COLORS, HELD_OUT, NOUNS, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Turn:
    """A question, its answer, and the words that a right answer must contain."""

    kind: str
    question: str
    answer: str
    truth: str


def quantity(count: int, noun: str) -> str:
    """`no circles`, `one circle`, `two letters A`."""
    if count == 1:
        return f"one {noun}"
    word, _, letter = noun.partition(" ")
    words = "crosses" if word == "cross" else f"{word}s"
    return f"{NUMBERS[count]} {words} {letter}".rstrip()


def plural(noun: str) -> str:
    """`circles`, `letters A`."""
    return quantity(2, noun).removeprefix("two ")


def enumeration(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def phrase(thing: Thing) -> str:
    """`a small red circle at the top`."""
    return f"a {thing.size} {thing.name} {thing.place}"


def with_article(name: str) -> str:
    """`a red circle`, `an orange circle`."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def caption(scene: Scene, random: Random) -> str:
    """Everything in the scene in one phrase, in reading order or (30 %) in the scene's own order."""
    things = list(scene.things) if random.random() < 0.3 else in_reading_order(scene)
    return f"{enumeration([phrase(thing) for thing in things])}, on a {scene.background} background"


def in_reading_order(scene: Scene) -> list[Thing]:
    """The things, row by row."""
    return sorted(scene.things, key=lambda thing: (thing.row, thing.column))


def detail(scene: Scene, random: Random) -> Turn:
    """Describe the whole scene in sentences."""
    question = random.choice(("Describe the picture.", "What is in the picture?", "What do you see?"))
    things = [phrase(thing) for thing in in_reading_order(scene)]
    answer = f"There {_be(len(things))} {enumeration(things)}. The background is {scene.background}."
    return Turn("description", question, answer, answer)


def color(scene: Scene, random: Random) -> Turn | None:
    """Ask for the color of a thing, or (10 %) of the background."""
    if random.random() < 0.1:
        background = scene.background
        return Turn("color", "What color is the background?", f"The background is {background}.", background)
    if not (thing := _pick_unique(scene.things, "noun", random)):
        return None
    question = random.choice((f"What color is the {thing.noun}?", f"Which color does the {thing.noun} have?"))
    return Turn("color", question, f"The {thing.noun} is {thing.color}.", thing.color)


def shape(scene: Scene, random: Random) -> Turn | None:
    """Ask what a thing is, identified by its color or its place."""
    if random.random() < 0.5:
        if not (thing := _pick_unique(scene.things, "color", random)):
            return None
        question = random.choice((f"What is {thing.color}?", f"What shape is the {thing.color} one?"))
    else:
        thing = random.choice(scene.things)
        question = f"What is {thing.place}?"
    return Turn("shape", question, f"It is {with_article(thing.name)}.", thing.noun)


def count(scene: Scene, random: Random) -> Turn | None:
    """Ask how many things there are: all, those of a noun, or those of a color."""
    what = random.choice(("things", "noun", "noun", "color"))
    if what == "things":
        total = len(scene.things)
        answer = f"There {_be(total)} {quantity(total, 'thing')}."
        return Turn("count", "How many things are there?", answer, NUMBERS[total])
    value = getattr(random.choice(scene.things), what)
    if random.random() < 0.15:
        value = random.choice(NOUNS if what == "noun" else COLORS)
    total = sum(getattr(thing, what) == value for thing in scene.things)
    if what == "noun":
        things, answer = plural(value), quantity(total, value)
    else:
        things = f"{value} things"
        answer = f"{NUMBERS[total]} {things.removesuffix('s') if total == 1 else things}"
    return Turn("count", f"How many {things} are there?", f"There {_be(total)} {answer}.", NUMBERS[total])


def _be(total: int) -> str:
    return "is" if total == 1 else "are"


def position(scene: Scene, random: Random) -> Turn | None:
    """Ask where a thing is."""
    key = "noun" if random.random() < 0.5 else "name"
    if not (thing := _pick_unique(scene.things, key, random)):
        return None
    name = thing.noun if _is_unique(scene.things, "noun", thing) and random.random() < 0.5 else thing.name
    return Turn("position", f"Where is the {name}?", f"The {name} is {thing.place}.", thing.place)


def size(scene: Scene, random: Random) -> Turn | None:
    """Ask whether a thing is small or large."""
    if not (thing := _pick_unique(scene.things, "name", random)):
        return None
    return Turn("size", f"Is the {thing.name} small or large?", f"The {thing.name} is {thing.size}.", thing.size)


def existence(scene: Scene, random: Random) -> Turn | None:
    """Ask whether something is in the scene: yes as often as no, and most negatives differ in one attribute only."""
    thing = random.choice(scene.things)
    positive, what = random.random() < 0.5, random.choice(("name", "name", "noun", "color"))
    if positive:
        value = getattr(thing, what)
    elif what == "name":
        near = (f"{thing.color} {random.choice(NOUNS)}", f"{random.choice(COLORS)} {thing.noun}")
        value = random.choice((*near, f"{random.choice(COLORS)} {random.choice(NOUNS)}"))
        if tuple(value.split(" ", 1)) in HELD_OUT:
            return None
    else:
        value = random.choice(NOUNS if what == "noun" else COLORS)
    if any(getattr(thing, what) == value for thing in scene.things) != positive:
        return None
    question, name = (f"anything {value}", f"something {value}") if what == "color" else (with_article(value),) * 2
    none = f"nothing {value}" if what == "color" else f"no {value}"
    answer = f"Yes, there is {name}." if positive else f"No, there is {none}."
    return Turn("existence", f"Is there {question}?", answer, "yes" if positive else "no")


def relation(scene: Scene, random: Random) -> Turn | None:
    """Ask whether one thing is left of, right of, above or below another."""
    if len(scene.things) < 2:
        return None
    one, other = random.sample(scene.things, 2)
    if not all(_is_unique(scene.things, "name", thing) for thing in (one, other)):
        return None
    words, offset = random.choice(
        (
            ("to the left of", one.column - other.column),
            ("to the right of", other.column - one.column),
            ("above", one.row - other.row),
            ("below", other.row - one.row),
        )
    )
    if offset == 0:
        return None
    question = f"Is the {one.name} {words} the {other.name}?"
    return Turn("relation", question, *(("Yes, it is.", "yes") if offset < 0 else ("No, it is not.", "no")))


def reasoning(scene: Scene, random: Random) -> Turn | None:
    """Ask what would be left without a thing, or which of two nouns is more frequent; the answer gives the reason."""
    if random.random() < 0.5:
        if not (thing := _pick_unique(scene.things, "name", random)):
            return None
        total = len(scene.things)
        rest = quantity(total - 1, "thing") if total > 1 else "nothing"
        answer = f"There {_be(total)} {quantity(total, 'thing')}. Without the {thing.name}, {rest} would be left."
        return Turn("reasoning", f"If the {thing.name} is taken away, how many things are left?", answer, answer)
    totals = Counter(thing.noun for thing in scene.things)
    if len(totals) < 2:
        return None
    first, second = random.sample(sorted(totals), 2)
    if totals[first] == totals[second]:
        verdict = "There are as many of both"
    else:
        verdict = f"There are more {plural(max(first, second, key=lambda noun: totals[noun]))}"
    answer = f"{verdict}: {quantity(totals[first], first)} and {quantity(totals[second], second)}."
    return Turn("reasoning", f"Are there more {plural(first)} or more {plural(second)}?", answer, answer)


def _pick_unique(things: Sequence[Thing], what: str, random: Random) -> Thing | None:
    """A random thing whose color, noun or name no other thing has, if there is one."""
    unique = [thing for thing in things if _is_unique(things, what, thing)]
    return random.choice(unique) if unique else None


def _is_unique(things: Sequence[Thing], what: str, thing: Thing) -> bool:
    return sum(getattr(other, what) == getattr(thing, what) for other in things) == 1


QuestionKind = Callable[[Scene, Random], Turn | None]
SHORT: tuple[QuestionKind, ...] = (color, shape, count, position, existence, relation, size)
WEIGHTS = (3, 4, 4, 4, 4, 2, 1)


def conversation(scene: Scene, random: Random, num_turns: int) -> list[Turn]:
    """Up to `num_turns` short questions of mixed kinds, all different."""
    turns: dict[str, Turn] = {}
    for _ in range(10 * num_turns):
        turn = random.choices(SHORT, WEIGHTS)[0](scene, random)
        if turn and turn.question not in turns:
            turns[turn.question] = turn
        if len(turns) == num_turns:
            break
    return list(turns.values())


def sample_turn(scene: Scene, kind: QuestionKind, random: Random, tries: int = 20) -> Turn | None:
    """A question of this kind, or None if `tries` attempts find none that fits the scene."""
    return next((turn for _ in range(tries) if (turn := kind(scene, random))), None)
