"""The picture of a run's loss."""

import json
import sys
from pathlib import Path

import pytest

from mlx_llava.training.charts import draw, losses, smoothed

ROWS = [(1, 3.0), (2, 2.0), (3, None), (2, 1.5), (4, 1.0)]  # step 2 was taken again


@pytest.fixture
def metrics(tmp_path: Path) -> Path:
    file = tmp_path / "metrics.jsonl"
    rows = "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in ROWS)
    file.write_text(rows + '{"step": 5, "lo')  # a process was killed here
    return file


def test_a_step_counts_once_and_a_skipped_one_has_no_loss(metrics: Path) -> None:
    assert losses(metrics) == {1: 3.0, 2: 1.5, 4: 1.0}


def test_the_mean_begins_at_the_first_value_and_stays_between_all() -> None:
    assert smoothed([2.0]) == pytest.approx([2.0])
    assert smoothed([4.0, 2.0, 2.0], 0.5) == pytest.approx([4.0, 8 / 3, 16 / 7])


def test_a_picture_is_drawn_where_matplotlib_is(metrics: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert draw(metrics, tmp_path / "loss.png")
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert not draw(tmp_path / "none.jsonl", tmp_path / "none.png")


def test_without_matplotlib_nothing_happens(metrics: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not draw(metrics, tmp_path / "loss.png")
    assert not (tmp_path / "loss.png").exists()
