"""That every stage has learned: losses went down, answers beat guessing. `python examples/tiny/prove.py OUT`"""

from collections import Counter, defaultdict
from pathlib import Path

import tyro
from score import right, rows
from tyro.conf import Positional

RUNS = ("text.run", "projector", "first.run", "second.run", "model.run", "adapters")
STAGES = {"clip": "patches", **dict.fromkeys(RUNS, "loss")}


def main(out: Positional[Path]) -> None:
    """Exit with 1 unless all of it holds."""
    lines = [went_down(name, [row[key] for row in rows(out / name / "metrics.jsonl")]) for name, key in STAGES.items()]
    lines.append(beats_guessing(rows(out / "test" / "questions.jsonl"), rows(out / "test-answers.jsonl")))
    for _, line in lines:
        print(line)
    raise SystemExit(not all(holds for holds, _ in lines))


def went_down(name: str, losses: list[float]) -> tuple[bool, str]:
    """Whether the last tenth of a run lies a tenth below the first."""
    tenth = max(len(losses) // 10, 1)
    first, last = (sum(part) / tenth for part in (losses[:tenth], losses[-tenth:]))
    return last < 0.9 * first, f"{name}: loss {first:.3f} -> {last:.3f} in {len(losses)} steps"


def beats_guessing(questions: list[dict], answers: list[dict]) -> tuple[bool, str]:
    """Whether more is right than if each kind always got its most common answer."""
    said = {row["question_id"]: row["text"].strip() for row in answers}
    truths: dict[str, Counter[str]] = defaultdict(Counter)
    for row in questions:
        truths[row["category"]][row["truth"]] += 1
    found = sum(right(row, said[row["question_id"]]) for row in questions)
    guessed = sum(max(kind.values()) for kind in truths.values())
    return found > guessed, f"right: {found} of {len(questions)}, by guessing {guessed}"


if __name__ == "__main__":
    tyro.cli(main)
