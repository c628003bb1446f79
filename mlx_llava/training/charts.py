"""Draws the loss of a run from its metrics; needs matplotlib (the extra `charts`)."""

import json
from pathlib import Path

SMOOTH = 0.95  # weight of the past in the running mean


def losses(metrics: Path) -> dict[int, float]:
    """The loss of every step; for a step repeated after an interruption, the last one."""
    rows = [json.loads(line) for line in metrics.read_text().split("\n") if line.endswith("}")]
    by_step = {row["step"]: row["loss"] for row in rows if row["loss"] is not None}
    return dict(sorted(by_step.items()))


def smoothed(values: list[float], share: float = SMOOTH) -> list[float]:
    """The exponential running mean of the values, corrected for its start (as Adam corrects its moments)."""
    mean, weight, means = 0.0, 0.0, []
    for value in values:
        mean, weight = share * mean + (1 - share) * value, share * weight + (1 - share)
        means.append(mean / weight)
    return means


def draw(metrics: Path, to: Path) -> bool:
    """Draw the chart; returns False if matplotlib is not installed or there is no loss to draw."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    by_step = losses(metrics) if metrics.exists() else {}
    if not by_step:
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([*by_step], [*by_step.values()], linewidth=0.5, alpha=0.5)
    axes.plot([*by_step], smoothed([*by_step.values()]))
    if (validation := metrics.with_name("validation.jsonl")).exists():
        axes.plot(*zip(*losses(validation).items(), strict=True), marker="o")
    axes.set(xlabel="step", ylabel="loss per answer token")
    axes.grid(alpha=0.3)
    figure.savefig(to, dpi=150)
    return True
