"""Score answers by kind of question. `python examples/tiny/score.py questions.jsonl answers.jsonl`"""

import json
from collections import defaultdict
from pathlib import Path

import tyro
from tyro.conf import Positional


def main(questions: Positional[Path], answers: Positional[Path]) -> None:
    """Print a Markdown table of the accuracy of ANSWERS, written by `mlx-llava ask --questions QUESTIONS`."""
    texts = {row["question_id"]: row["text"] for row in read_lines(answers)}
    scores: dict[str, list[bool]] = defaultdict(list)
    for row in read_lines(questions):
        scores[row["category"]].append(is_right(row, texts[row["question_id"]].strip()))
    print("| kind | right |\n|---|---|")
    for kind, marks in scores.items():
        print(f"| {kind} | {sum(marks) / len(marks):.1%} ({sum(marks)}/{len(marks)}) |")


def read_lines(path: Path) -> list[dict]:
    """The rows of a JSON lines file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def is_right(row: dict, answer: str) -> bool:
    """Whether an answer has the deciding word in the right place; of other kinds, whether it equals the truth."""
    truth = row["truth"]
    match row["category"]:
        case "existence" | "relation":
            return answer.lower().startswith(truth)
        case "color" | "shape" | "position" | "size":
            return answer.removesuffix(".").endswith(f" {truth}")
        case "count":
            return answer.split()[2:3] == [truth]
        case _:
            return answer == truth


if __name__ == "__main__":
    tyro.cli(main)
