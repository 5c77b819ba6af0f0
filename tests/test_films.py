"""The films that other tests use are what they say: frames, rate, cuts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av


def test_a_made_film_has_the_frames_that_it_says(film: Callable[..., Any]) -> None:
    made = film("six shots.mkv", shots=6)
    with av.open(str(made.path)) as opened:
        video = opened.streams.video[0]
        assert sum(1 for p in opened.demux(video) if p.size) == made.num_frames == 6 * 48
        assert opened.streams.audio
    assert made.cuts == (0, 48, 96, 144, 192, 240)
