"""A seeded part of `make fuzz`: damaged files end in a sentence, or in numbers that are true."""

from __future__ import annotations

import fuzz


def test_damaged_files_are_refused_or_read_truly() -> None:
    tried, wrong = fuzz.run(600, seed=1, seconds=8)
    assert not wrong, "\n\n".join(wrong[:3])
    assert tried.total() >= 50
