"""The loss of a run as a picture, from its metrics. matplotlib is the extra `charts`; without it there is none."""

import json
from pathlib import Path

SMOOTH = 0.95  # of the mean that is drawn over the single steps


def losses(metrics: Path) -> dict[int, float]:
    """The loss of every step; a step that was taken again after an interruption counts as it was the last time."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines() if line.endswith("}")]
    found = {row["step"]: row["loss"] for row in rows if row["loss"] is not None}
    return dict(sorted(found.items()))


def smoothed(values: list[float], share: float = SMOOTH) -> list[float]:
    """The running mean of values, in which older ones fade; without a bias to where it begins."""
    mean, weight, found = 0.0, 0.0, []
    for value in values:
        mean, weight = share * mean + (1 - share) * value, share * weight + (1 - share)
        found.append(mean / weight)
    return found


def draw(metrics: Path, to: Path) -> bool:
    """Write the picture; whether matplotlib is there, and a loss to draw."""
    try:
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    found = losses(metrics) if metrics.exists() else {}
    if not found:
        return False
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([*found], [*found.values()], linewidth=0.5, alpha=0.5)
    axes.plot([*found], smoothed([*found.values()]))
    if (validation := metrics.with_name("validation.jsonl")).exists():
        axes.plot(*zip(*losses(validation).items(), strict=True), marker="o")
    axes.set(xlabel="step", ylabel="loss for each answer token")
    axes.grid(alpha=0.3)
    figure.savefig(to, dpi=150)
    return True
