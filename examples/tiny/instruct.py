"""From captions and boxes to the data of every stage, in LLaVA's form. `python examples/tiny/instruct.py FOLDER`"""

import json
from itertools import cycle, islice
from pathlib import Path
from random import Random

import coco
import tyro
from language import SHORT, Turn, asked_of, conversation, detail, reasoning
from scenes import HELD_OUT, Scene
from tyro.conf import Positional

BRIEF = ("Describe the image concisely.", "What is this?", "Give a short description of the picture.")
KINDS = (*SHORT, reasoning)


def main(folder: Positional[Path], seed: int = 1, turns: int = 7, more: tuple[int, ...] = ()) -> None:
    """Write pretrain.json, finetune.json with a conversation for each picture, `more` of them, and questions.jsonl.

    Each number in `more` makes a file: finetune-2.json, finetune-3.json, …
    """
    chance = Random(f"instruct {seed}")
    pictures = coco.read(folder)
    said = [(p.file_name, p.captions[0]) for p in pictures[::4]]
    write(folder / "pretrain.json", [described(*pair, n, chance) for n, pair in enumerate(said)])
    talks = (instructed(picture, n, turns, chance) for n, picture in enumerate(cycle(pictures)))
    write(folder / "finetune.json", [*islice(talks, len(pictures))])
    for leg, number in enumerate(more, 2):
        write(folder / f"finetune-{leg}.json", [*islice(talks, number)])
    with (folder / "questions.jsonl").open("w") as file:
        for n, picture in enumerate(pictures):
            for turn in questions(picture.scene, chance):
                row = {"question_id": f"{n}-{turn.kind}", "image": picture.file_name, "text": turn.question}
                file.write(
                    json.dumps({**row, "category": turn.kind, "answer": turn.answer, "truth": turn.truth}) + "\n"
                )


def questions(scene: Scene, chance: Random) -> list[Turn]:
    """One question of each kind; in a scene with a pair that is held out, about that one only."""
    unseen = [thing for thing in scene.things if (thing.color, thing.noun) in HELD_OUT]
    if not unseen:
        return [turn for kind in KINDS if (turn := asked_of(scene, kind, chance))]
    tries = [turn for kind in SHORT for _ in range(40) if (turn := kind(scene, chance))]
    about = [t for t in tries if all(w in f"{t.question} {t.answer}" for w in (unseen[0].color, unseen[0].noun))]
    return list({turn.kind: turn for turn in about}.values())


def described(name: str, text: str, number: int, chance: Random) -> dict:
    """A picture and its caption: stage 1."""
    turns = [{"from": "human", "value": f"<image>\n{chance.choice(BRIEF)}"}, {"from": "gpt", "value": text}]
    return {"id": f"caption-{number}", "image": name, "conversations": turns}


def instructed(picture: coco.Picture, number: int, turns: int, chance: Random) -> dict:
    """A conversation, a detailed description or some reasoning about a picture: stage 2."""
    kind, asked = kinds_of_turns(picture.scene, turns, chance)
    questions = [f"<image>\n{asked[0].question}", *(turn.question for turn in asked[1:])]
    return {"id": f"{kind}-{number}", "image": picture.file_name, "conversations": talk(questions, asked)}


def kinds_of_turns(scene: Scene, turns: int, chance: Random) -> tuple[str, list[Turn]]:
    """Turns of one kind of instruction, short questions after them."""
    kind = chance.choices(("conversation", "detail", "reasoning"), (70, 15, 15))[0]
    first = {"conversation": None, "detail": detail(scene, chance), "reasoning": asked_of(scene, reasoning, chance)}[
        kind
    ]
    if first is None:
        return "conversation", conversation(scene, chance, turns)
    return kind, [first, *conversation(scene, chance, max(1, turns - 3))]


def talk(questions: list[str], turns: list[Turn]) -> list[dict]:
    """Questions and answers in LLaVA's form."""
    pairs = zip(questions, turns, strict=True)
    return [row for q, turn in pairs for row in ({"from": "human", "value": q}, {"from": "gpt", "value": turn.answer})]


def write(path: Path, rows: list[dict]) -> None:
    """Write rows as one JSON array."""
    path.write_text(json.dumps(rows))


if __name__ == "__main__":
    tyro.cli(main)
