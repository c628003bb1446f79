"""A few of the kills of `kills.py`; all forty are a command."""

from pathlib import Path

from faults.kills import kill


def test_a_run_that_is_killed_ends_with_the_same_bits(tmp_path: Path) -> None:
    told = kill(tmp_path, kills=4, seed=1)
    assert told.kills == 4
    assert told.hashes[0] == told.hashes[1]
