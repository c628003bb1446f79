"""What can be said of a scene: captions, and questions with their answers, by kind.

A question is asked only where it has one right answer, and never about a pair of colour and noun that is held out,
unless `held_out` asks for just those.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from scenes import COLORS, HELD_OUT, NOUNS, Scene, Thing

NUMBERS = ("no", "one", "two", "three", "four", "five")


@dataclass(frozen=True)
class Turn:
    """A question, its answer, and the words of the answer that make it right."""

    kind: str
    question: str
    answer: str
    truth: str


def number(count: int, noun: str) -> str:
    """`one circle`, `three circles`, `two letters A`."""
    if count == 1:
        return f"one {noun}"
    kind, _, letter = noun.partition(" ")
    plural = "crosses" if kind == "cross" else f"{kind}s"
    return f"{NUMBERS[count]} {plural} {letter}".rstrip()


def many(noun: str) -> str:
    """The plural: `circles`, `letters A`."""
    return number(2, noun).removeprefix("two ")


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def phrase(thing: Thing) -> str:
    """A thing and where it is: `a small red circle at the top`."""
    return f"a {thing.size} {thing.name} {thing.place}"


def one(name: str) -> str:
    """With its article: `a red circle`, `an orange circle`."""
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def caption(scene: Scene, chance: Random) -> str:
    """A sentence that names everything in the picture, in reading order mostly."""
    things = list(scene.things) if chance.random() < 0.3 else in_reading_order(scene)
    return f"{listed([phrase(thing) for thing in things])}, on a {scene.background} background"


def in_reading_order(scene: Scene) -> list[Thing]:
    """The things, row by row."""
    return sorted(scene.things, key=lambda thing: (thing.row, thing.column))


def detail(scene: Scene, chance: Random) -> Turn:
    """The whole picture in sentences."""
    question = chance.choice(("Describe the picture.", "What is in the picture?", "What do you see?"))
    things = [phrase(thing) for thing in in_reading_order(scene)]
    verb = "is" if len(things) == 1 else "are"
    answer = f"There {verb} {listed(things)}. The background is {scene.background}."
    return Turn("description", question, answer, answer)


def color(scene: Scene, chance: Random) -> Turn | None:
    """What colour something has; or the background."""
    if chance.random() < 0.1:
        return Turn(
            "color",
            "What color is the background?",
            f"The background is {scene.background}.",
            scene.background,
        )
    if not (thing := _only(scene.things, "noun", chance)):
        return None
    question = chance.choice((f"What color is the {thing.noun}?", f"Which color does the {thing.noun} have?"))
    return Turn("color", question, f"The {thing.noun} is {thing.color}.", thing.color)


def shape(scene: Scene, chance: Random) -> Turn | None:
    """What something is, told by its colour or its place."""
    if chance.random() < 0.5:
        if not (thing := _only(scene.things, "color", chance)):
            return None
        question = chance.choice((f"What is {thing.color}?", f"What shape is the {thing.color} one?"))
        return Turn("shape", question, f"It is {one(thing.name)}.", thing.noun)
    thing = chance.choice(scene.things)
    return Turn("shape", f"What is {thing.place}?", f"It is {one(thing.name)}.", thing.noun)


def count(scene: Scene, chance: Random) -> Turn | None:
    """How many there are: of all, of a noun, or of a colour."""
    what = chance.choice(("things", "noun", "noun", "color"))
    if what == "things":
        total = len(scene.things)
        return Turn("count", "How many things are there?", f"There {_be(total)} {number(total, 'thing')}.", NUMBERS[total])
    value = getattr(chance.choice(scene.things), what)
    if chance.random() < 0.15:
        value = chance.choice(NOUNS if what == "noun" else COLORS)
    total = sum(getattr(thing, what) == value for thing in scene.things)
    if what == "noun":
        return Turn("count", f"How many {many(value)} are there?", f"There {_be(total)} {_number(total, value)}.", NUMBERS[total])
    things = f"{value} thing"
    return Turn(
        "count",
        f"How many {value} things are there?",
        f"There {_be(total)} {NUMBERS[total]} {things if total == 1 else things + 's'}.",
        NUMBERS[total],
    )


def _be(total: int) -> str:
    return "is" if total == 1 else "are"


def _number(total: int, noun: str) -> str:
    return f"no {many(noun)}" if total == 0 else number(total, noun)


def position(scene: Scene, chance: Random) -> Turn | None:
    """Where something is."""
    if not (thing := _only(scene.things, "noun", chance) if chance.random() < 0.5 else _only(scene.things, "name", chance)):
        return None
    words = thing.noun if _alone(scene.things, "noun", thing) and chance.random() < 0.5 else thing.name
    if not _alone(scene.things, "name", thing):
        return None
    return Turn("position", f"Where is the {words}?", f"The {words} is {thing.place}.", thing.place)


def size(scene: Scene, chance: Random) -> Turn | None:
    """Whether something is small or large."""
    if not (thing := _only(scene.things, "name", chance)):
        return None
    return Turn("size", f"Is the {thing.name} small or large?", f"The {thing.name} is {thing.size}.", thing.size)


def existence(scene: Scene, chance: Random) -> Turn | None:
    """Whether there is such a thing; as often yes as no, and what is not there is often nearly there."""
    thing = chance.choice(scene.things)
    there, what = chance.random() < 0.5, chance.choice(("name", "name", "noun", "color"))
    if there:
        value = getattr(thing, what)
    elif what == "name":
        near = (f"{thing.color} {chance.choice(NOUNS)}", f"{chance.choice(COLORS)} {thing.noun}")
        value = chance.choice((*near, f"{chance.choice(COLORS)} {chance.choice(NOUNS)}"))
        if tuple(value.split(" ", 1)) in HELD_OUT:
            return None
    else:
        value = chance.choice(NOUNS if what == "noun" else COLORS)
    found = any(getattr(thing, what) == value for thing in scene.things)
    if found != there:
        return None
    if what == "color":
        return Turn("existence", f"Is there anything {value}?", *_verdict(found, f"something {value}", f"nothing {value}"))
    return Turn("existence", f"Is there {one(value)}?", *_verdict(found, one(value), f"no {value}"))


def _verdict(found: bool, yes: str, no: str) -> tuple[str, str]:
    return (f"Yes, there is {yes}.", "yes") if found else (f"No, there is {no}.", "no")


def relation(scene: Scene, chance: Random) -> Turn | None:
    """Whether one thing is left, right, above or below of another."""
    if len(scene.things) < 2:
        return None
    one, other = chance.sample(scene.things, 2)
    if not all(_alone(scene.things, "name", thing) for thing in (one, other)):
        return None
    words, right = chance.choice(
        (
            ("to the left of", one.column - other.column),
            ("to the right of", other.column - one.column),
            ("above", one.row - other.row),
            ("below", other.row - one.row),
        )
    )
    if right == 0:
        return None
    said = f"the {one.name} {words} the {other.name}"
    truth = "yes" if right < 0 else "no"
    return Turn("relation", f"Is {said}?", "Yes, it is." if right < 0 else "No, it is not.", truth)


def reasoning(scene: Scene, chance: Random) -> Turn | None:
    """What follows from the picture, with the reason: what is left, what there is more of."""
    if chance.random() < 0.5:
        if not (thing := _only(scene.things, "name", chance)):
            return None
        left = len(scene.things) - 1
        rest = f"There {_be(len(scene.things))} {number(len(scene.things), 'thing')}. "
        answer = f"{rest}Without the {thing.name}, {number(left, 'thing') if left else 'nothing'} would be left."
        return Turn("reasoning", f"If the {thing.name} is taken away, how many things are left?", answer, answer)
    totals = Counter(thing.noun for thing in scene.things)
    if len(totals) < 2:
        return None
    first, second = chance.sample(sorted(totals), 2)
    if totals[first] == totals[second]:
        verdict = "There are as many of both"
    else:
        more = max(first, second, key=lambda noun: totals[noun])
        verdict = f"There are more {many(more)}"
    answer = f"{verdict}: {number(totals[first], first)} and {number(totals[second], second)}."
    return Turn("reasoning", f"Are there more {many(first)} or more {many(second)}?", answer, answer)


def _only(things: Sequence[Thing], what: str, chance: Random) -> Thing | None:
    """One of the things that are alone in having their colour, noun or name."""
    alone = [thing for thing in things if _alone(things, what, thing)]
    return chance.choice(alone) if alone else None


def _alone(things: Sequence[Thing], what: str, thing: Thing) -> bool:
    return sum(getattr(other, what) == getattr(thing, what) for other in things) == 1


Asker = Callable[[Scene, Random], Turn | None]
SHORT: tuple[Asker, ...] = (color, shape, count, position, existence, relation, size)
WEIGHTS = (3, 4, 4, 4, 4, 2, 1)


def conversation(scene: Scene, chance: Random, num_turns: int) -> list[Turn]:
    """Short questions of mixed kinds, none twice."""
    turns: dict[str, Turn] = {}
    for _ in range(10 * num_turns):
        turn = chance.choices(SHORT, WEIGHTS)[0](scene, chance)
        if turn and turn.question not in turns:
            turns[turn.question] = turn
        if len(turns) == num_turns:
            break
    return list(turns.values())


def asked_of(scene: Scene, kind: Asker, chance: Random, tries: int = 20) -> Turn | None:
    """One question of a kind, if the scene has an answer to any."""
    return next((turn for _ in range(tries) if (turn := kind(scene, chance))), None)
