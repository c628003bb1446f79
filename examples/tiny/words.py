"""Write text-only conversations about scenes, for the language model. `python examples/tiny/words.py text.json`

The scenes use all backgrounds, the dark ones too: nothing is drawn.
"""

import json
from pathlib import Path
from random import Random

import tyro
from instruct import llava_turns, sample_turns, write
from language import caption
from scenes import Scene, sample_scene
from tyro.conf import Positional


def main(
    out: Positional[Path],
    scenes: int = 24000,
    seed: int = 1,
    things: int = 5,
    turns: int = 7,
    held_out: bool = False,
    after: Path | None = None,
) -> None:
    """Write one conversation for each of `scenes` scenes of up to `things` things, in LLaVA's format.

    With `held_out`, every scene has a pair that no image shows. The records of `after`, if given, come first.
    """
    random = Random(f"instruct {seed}")
    records = json.loads(after.read_text()) if after else []
    for number in range(scenes):
        scene = sample_scene(Random(f"{seed} {number}"), things, held_out=held_out)
        records.append(text_record(scene, number, turns, random))
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out, records)


def text_record(scene: Scene, number: int, num_turns: int, random: Random) -> dict:
    """A conversation about a scene that a caption describes in place of an image."""
    turns = sample_turns(scene, num_turns, random)[1]
    first = f"There is {caption(scene, random)}.\n{turns[0].question}"
    questions = [first, *(turn.question for turn in turns[1:])]
    return {"id": f"text-{number}", "conversations": llava_turns(questions, turns)}


if __name__ == "__main__":
    tyro.cli(main)
