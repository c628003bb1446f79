"""Conversations about scenes in words alone, for the language model. `python examples/tiny/words.py text.json`

Scenes of all backgrounds: words cost nothing to draw.
"""

import json
from pathlib import Path
from random import Random

import tyro
from instruct import kinds_of_turns, talk, write
from language import caption
from scenes import Scene, draw_scene
from tyro.conf import Positional


def main(
    out: Positional[Path],
    scenes: int = 24000,
    seed: int = 1,
    things: int = 5,
    turns: int = 7,
    held_out: bool = False,
    beside: Path | None = None,
) -> None:
    """Write `scenes` conversations, about at most so many things each, in LLaVA's form.

    With `held_out` each tells of a pair that no picture shows. `beside`: records that are written before them.
    """
    chance = Random(f"instruct {seed}")
    drawn = (draw_scene(Random(f"{seed} {number}"), things, held_out=held_out) for number in range(scenes))
    out.parent.mkdir(parents=True, exist_ok=True)
    others = json.loads(beside.read_text()) if beside else []
    write(out, others + [in_words(scene, number, turns, chance) for number, scene in enumerate(drawn)])


def in_words(scene: Scene, number: int, turns: int, chance: Random) -> dict:
    """Questions about a picture that is described, not shown: what a language model can learn without eyes."""
    asked = kinds_of_turns(scene, turns, chance)[1]
    first = f"There is {caption(scene, chance)}.\n{asked[0].question}"
    return {"id": f"text-{number}", "conversations": talk([first, *(t.question for t in asked[1:])], asked)}


if __name__ == "__main__":
    tyro.cli(main)
