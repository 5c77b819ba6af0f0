"""A round of every kind of `make soak`: kills, signals, full disks, damage, names, playlists."""

from __future__ import annotations

import pytest
from soak import soak


@pytest.mark.real
def test_a_round_of_every_ill_treatment() -> None:
    tally = soak(seconds=120, rounds=11, seed=1)
    assert not tally.problems, "\n".join(tally.problems)
    assert len(tally.survived) == 11 and tally.wrong_numbers == tally.lost_rows == 0
