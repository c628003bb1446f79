"""Check that every stage has learned: losses fell, answers beat guessing. `python examples/tiny/prove.py OUT`"""

from collections import Counter, defaultdict
from pathlib import Path

import tyro
from score import is_right, read_lines
from tyro.conf import Positional

STAGES = {"clip": "patches", **dict.fromkeys(("text.run", "projector", "leg1.run", "adapters"), "loss")}


def main(out: Positional[Path]) -> None:
    """Exit with 1 unless every check holds."""
    checks = [loss_fell(name, losses(out / name, key)) for name, key in STAGES.items()]
    checks.append(later_legs_help(losses(out / "leg1.run", "loss"), losses(out / "leg4.run", "loss")))
    checks.append(beats_guessing(read_lines(out / "test" / "questions.jsonl"), read_lines(out / "test-answers.jsonl")))
    for _, line in checks:
        print(line)
    raise SystemExit(not all(holds for holds, _ in checks))


def losses(run: Path, key: str) -> list[float]:
    """The loss of every step of a run."""
    return [row[key] for row in read_lines(run / "metrics.jsonl")]


def loss_fell(name: str, losses: list[float]) -> tuple[bool, str]:
    """Whether the mean loss of the last tenth of a run is at least 10 % below that of the first tenth."""
    first, last = tail_mean(losses[::-1]), tail_mean(losses)
    return last < 0.9 * first, f"{name}: loss {first:.3f} -> {last:.3f} in {len(losses)} steps"


def later_legs_help(first_leg: list[float], last_leg: list[float]) -> tuple[bool, str]:
    """Whether the last leg of stage 2 ended with a lower loss than the first."""
    first, last = tail_mean(first_leg), tail_mean(last_leg)
    return last < first, f"after leg 1: loss {first:.3f} -> {last:.3f}"


def tail_mean(losses: list[float]) -> float:
    """The mean of the last tenth."""
    last = losses[-max(len(losses) // 10, 1) :]
    return sum(last) / len(last)


def beats_guessing(questions: list[dict], answers: list[dict]) -> tuple[bool, str]:
    """Whether more answers are right than with the most common answer of each kind."""
    texts = {row["question_id"]: row["text"].strip() for row in answers}
    truths: dict[str, Counter[str]] = defaultdict(Counter)
    for row in questions:
        truths[row["category"]][row["truth"]] += 1
    num_right = sum(is_right(row, texts[row["question_id"]]) for row in questions)
    by_guessing = sum(max(kind.values()) for kind in truths.values())
    return num_right > by_guessing, f"right answers: {num_right} of {len(questions)}; by guessing: {by_guessing}"


if __name__ == "__main__":
    tyro.cli(main)
