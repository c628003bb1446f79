"""Turn captions and boxes into training data in LLaVA's format. `python examples/tiny/instruct.py FOLDER`"""

import json
from itertools import cycle, islice
from pathlib import Path
from random import Random

import coco
import tyro
from language import SHORT, Turn, conversation, detail, reasoning, sample_turn
from scenes import HELD_OUT, Scene
from tyro.conf import Positional

INSTRUCTIONS = ("Describe the image concisely.", "What is this?", "Give a short description of the picture.")
KINDS = (*SHORT, reasoning)


def main(folder: Positional[Path], seed: int = 1, turns: int = 7, more: tuple[int, ...] = ()) -> None:
    """Write pretrain.json, finetune.json with one conversation per image, and questions.jsonl.

    Each number in `more` adds a file with that many conversations: finetune-2.json, finetune-3.json, …
    """
    random = Random(f"instruct {seed}")
    images = coco.read(folder)
    captions = [caption_record(image, n, random) for n, image in enumerate(images[::4])]
    write(folder / "pretrain.json", captions)
    records = (instruction_record(image, n, turns, random) for n, image in enumerate(cycle(images)))
    write(folder / "finetune.json", [*islice(records, len(images))])
    for leg, size in enumerate(more, 2):
        write(folder / f"finetune-{leg}.json", [*islice(records, size)])
    with (folder / "questions.jsonl").open("w") as file:
        for n, image in enumerate(images):
            for turn in questions(image.scene, random):
                row = {"question_id": f"{n}-{turn.kind}", "image": image.file_name, "text": turn.question}
                row |= {"category": turn.kind, "answer": turn.answer, "truth": turn.truth}
                file.write(json.dumps(row) + "\n")


def questions(scene: Scene, random: Random) -> list[Turn]:
    """One question of each kind; in a scene with a held-out pair, only questions about that pair."""
    held_out = [thing for thing in scene.things if (thing.color, thing.noun) in HELD_OUT]
    if not held_out:
        return [turn for kind in KINDS if (turn := sample_turn(scene, kind, random))]
    turns = [turn for kind in SHORT for _ in range(40) if (turn := kind(scene, random))]
    words = (held_out[0].color, held_out[0].noun)
    about = [turn for turn in turns if all(word in f"{turn.question} {turn.answer}" for word in words)]
    return list({turn.kind: turn for turn in about}.values())


def caption_record(image: coco.SceneImage, number: int, random: Random) -> dict:
    """A stage-1 record: an image and its caption."""
    question = f"<image>\n{random.choice(INSTRUCTIONS)}"
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": image.captions[0]}]
    return {"id": f"caption-{number}", "image": image.file_name, "conversations": turns}


def instruction_record(image: coco.SceneImage, number: int, num_turns: int, random: Random) -> dict:
    """A stage-2 record: a conversation, a detailed description or a chain of reasoning about an image."""
    kind, turns = sample_turns(image.scene, num_turns, random)
    questions = [f"<image>\n{turns[0].question}", *(turn.question for turn in turns[1:])]
    return {"id": f"{kind}-{number}", "image": image.file_name, "conversations": llava_turns(questions, turns)}


def sample_turns(scene: Scene, num_turns: int, random: Random) -> tuple[str, list[Turn]]:
    """A kind of instruction and its turns: short questions, alone or after a description or a chain of reasoning."""
    kind = random.choices(("conversation", "detail", "reasoning"), (70, 15, 15))[0]
    # Both are drawn whatever the kind is: the order of random draws defines the training data.
    openings = {"detail": detail(scene, random), "reasoning": sample_turn(scene, reasoning, random)}
    if opening := openings.get(kind):
        return kind, [opening, *conversation(scene, random, max(1, num_turns - 3))]
    return "conversation", conversation(scene, random, num_turns)


def llava_turns(questions: list[str], turns: list[Turn]) -> list[dict]:
    """The `conversations` of a record, with the answers of `turns`."""
    pairs = zip(questions, turns, strict=True)
    return [row for q, turn in pairs for row in ({"from": "human", "value": q}, {"from": "gpt", "value": turn.answer})]


def write(path: Path, records: list[dict]) -> None:
    """Write records as one JSON array."""
    path.write_text(json.dumps(records))


if __name__ == "__main__":
    tyro.cli(main)
