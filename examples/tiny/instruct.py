"""From captions and boxes to the data of every stage, in LLaVA's form. `python examples/tiny/instruct.py FOLDER`"""

import json
from pathlib import Path
from random import Random

import coco
import tyro
from language import SHORT, Turn, asked_of, caption, conversation, detail, reasoning
from scenes import Scene
from tyro.conf import Positional

BRIEF = ("Describe the image concisely.", "What is this?", "Give a short description of the picture.")
KINDS = (*SHORT, reasoning)


def main(folder: Positional[Path], seed: int = 1, turns: int = 7) -> None:
    """Write text.json, pretrain.json, finetune.json and questions.jsonl beside the pictures of FOLDER."""
    chance = Random(f"instruct {seed}")
    pictures = coco.read(folder)
    said = [(p.file_name, text) for p in pictures for text in p.captions]
    write(folder / "text.json", [in_words(p.scene, n, turns, chance) for n, p in enumerate(pictures)])
    write(folder / "pretrain.json", [described(*pair, n, chance) for n, pair in enumerate(said)])
    write(folder / "finetune.json", [instructed(p, n, turns, chance) for n, p in enumerate(pictures)])
    with (folder / "questions.jsonl").open("w") as file:
        for n, picture in enumerate(pictures):
            for kind in KINDS:
                if turn := asked_of(picture.scene, kind, chance):
                    row = {"question_id": f"{n}-{turn.kind}", "image": picture.file_name, "text": turn.question}
                    file.write(json.dumps({**row, "category": turn.kind, "answer": turn.answer, "truth": turn.truth}) + "\n")


def in_words(scene: Scene, number: int, turns: int, chance: Random) -> dict:
    """Questions about a picture that is described, not shown: what a language model can learn without eyes."""
    asked = kinds_of_turns(scene, turns, chance)[1]
    first = f"There is {caption(scene, chance)}.\n{asked[0].question}"
    return {"id": f"text-{number}", "conversations": talk([first, *(t.question for t in asked[1:])], asked)}


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
    first = {"conversation": None, "detail": detail(scene, chance), "reasoning": asked_of(scene, reasoning, chance)}[kind]
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
