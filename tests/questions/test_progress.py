"""How far an encode is: a percent at a time, with the time that is left by its own pace."""

from __future__ import annotations

import pytest
from vmaftune.questions import progress
from vmaftune.questions.progress import Progress


def test_a_step_tells_each_percent_once_and_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    step = Progress("encode", 1000, attempt=2, after_s=5)
    first = step.at(0)
    assert first is not None and first.expected_s is None and first.attempt == 2
    assert step.at(9) is None, "still 0%"
    now = 110.0
    told = step.at(250)
    assert told is not None
    assert (told.frames, told.num_frames, told.expected_s) == (250, 1000, 35.0)


def test_work_that_is_not_frames_has_a_pace_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    step = Progress("shots", 100)
    now = 10.0
    told = step.at(50, done=200, left=100)
    assert told is not None and told.expected_s == 5.0
