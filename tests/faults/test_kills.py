"""Four of the kills of `kills.py`; the full forty are a command."""

from pathlib import Path

from faults.kills import run_with_kills


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    outcome = run_with_kills(tmp_path, kills=4, seed=1)
    assert outcome.kills == 4
    assert outcome.hashes[0] == outcome.hashes[1]
