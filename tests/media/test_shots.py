"""Shots: cuts found where they were made, and lengths that can be encoded apart."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from films import Film
from hypothesis import given
from hypothesis import strategies as st
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.probe import probe
from vmaftune.media.shots import bounded, detect, parse_cuts, shots

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12", "-bf", "3", "-g", "60")


@pytest.mark.parametrize("name", ["shots.mkv", "shots.mp4", "shots.ts"])
def test_cuts_are_found_to_the_frame(name: str, film: Callable[..., Film], real: Ffmpeg) -> None:
    made = film(name, shots=6, sound=False, args=X264)
    facts = probe(made.path)
    found = detect(made.path, facts, real, 120)
    # The cut from a game to a screen recording changes 5% only: shaky clips do so in each frame.
    assert found == tuple(cut for cut in made.cuts[1:] if cut != 192)
    spans = shots(made.path, facts, real, 120)
    assert [s.start for s in spans] == [0, *found], "shots of 2 s stay as they are"
    assert sum(s.num_frames for s in spans) == made.num_frames


def test_a_real_line_is_read() -> None:
    line = "[scdet @ 0x1] lavfi.scd.score: 14.251, lavfi.scd.time: 2.002"
    assert parse_cuts(f"x\n{line}\ny") == [2.002]


@given(
    st.lists(st.integers(0, 3000), max_size=60),
    st.integers(1, 3000),
    st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(60)]),
)
def test_shots_cover_the_film_and_keep_their_lengths(
    cuts: list[int], num_frames: int, fps: Fraction
) -> None:
    spans = bounded([c for c in cuts if c < num_frames], num_frames, fps)
    ends = [s.start + s.num_frames for s in spans]
    assert [s.start for s in spans] == [0, *ends[:-1]] and ends[-1] == num_frames
    assert max(s.num_frames for s in spans) <= 20 * fps
    if num_frames >= fps:
        assert min(s.num_frames for s in spans) >= int(fps)
