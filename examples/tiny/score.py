"""How many answers are right, by kind of question. `python examples/tiny/score.py questions.jsonl answers.jsonl`"""

import json
from collections import defaultdict
from pathlib import Path

import tyro
from tyro.conf import Positional


def main(questions: Positional[Path], answers: Positional[Path]) -> None:
    """Print a Markdown table of what `mlx-llava ask --questions QUESTIONS` answered."""
    said = {row["question_id"]: row["text"] for row in rows(answers)}
    scores: dict[str, list[bool]] = defaultdict(list)
    for row in rows(questions):
        scores[row["category"]].append(right(row, said[row["question_id"]].strip()))
    print("| kind | right |\n|---|---|")
    for kind, marks in scores.items():
        print(f"| {kind} | {sum(marks) / len(marks):.1%} ({sum(marks)}/{len(marks)}) |")


def rows(path: Path) -> list[dict]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def right(row: dict, answer: str) -> bool:
    """Whether an answer says what it has to: the whole of it, where nothing shorter decides."""
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
