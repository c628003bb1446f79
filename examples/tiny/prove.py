"""That every stage has learned: losses went down, answers beat guessing. `python examples/tiny/prove.py OUT`"""

from collections import Counter, defaultdict
from pathlib import Path

import tyro
from score import right, rows
from tyro.conf import Positional

RUNS = ("text.run", "projector", "leg1.run", "adapters")
STAGES = {"clip": "patches", **dict.fromkeys(RUNS, "loss")}


def main(out: Positional[Path]) -> None:
    """Exit with 1 unless all of it holds."""
    lines = [went_down(name, losses(out / name, key)) for name, key in STAGES.items()]
    lines.append(went_on(losses(out / "leg1.run", "loss"), losses(out / "leg4.run", "loss")))
    lines.append(beats_guessing(rows(out / "test" / "questions.jsonl"), rows(out / "test-answers.jsonl")))
    for _, line in lines:
        print(line)
    raise SystemExit(not all(holds for holds, _ in lines))


def losses(run: Path, key: str) -> list[float]:
    """The losses of a run, step by step."""
    return [row[key] for row in rows(run / "metrics.jsonl")]


def went_down(name: str, losses: list[float]) -> tuple[bool, str]:
    """Whether the last tenth of a run lies a tenth below the first."""
    first, last = end(losses[::-1]), end(losses)
    return last < 0.9 * first, f"{name}: loss {first:.3f} -> {last:.3f} in {len(losses)} steps"


def went_on(first_leg: list[float], last_leg: list[float]) -> tuple[bool, str]:
    """Whether the last leg of stage 2 ended below the first."""
    return end(last_leg) < end(first_leg), f"after leg 1: loss {end(first_leg):.3f} -> {end(last_leg):.3f}"


def end(losses: list[float]) -> float:
    """The mean of the last tenth."""
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last)


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
