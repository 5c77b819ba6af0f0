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
from vmaftune.media.shots import bounded, cuts, detect, parse_changes, shots

X264 = ("-c:v", "libx264", "-preset", "veryfast", "-qp", "12", "-bf", "3", "-g", "60")


@pytest.mark.parametrize("name", ["shots.mkv", "shots.mp4", "shots.ts"])
def test_cuts_are_found_to_the_frame(name: str, film: Callable[..., Film], real: Ffmpeg) -> None:
    made = film(name, shots=6, sound=False, args=X264)
    facts = probe(made.path)
    found = detect(made.path, facts, real, 120)
    # Among them one that changes 5% only, from a game to a screen recording.
    assert found == made.cuts[1:]
    spans = shots(made.path, facts, real, 120)
    assert [s.start for s in spans] == [0, *found], "shots of 2 s stay as they are"
    assert sum(s.num_frames for s in spans) == made.num_frames


def test_real_lines_are_read() -> None:
    text = "frame:1    pts:42      pts_time:0.042\nlavfi.scd.mafd=0.394\n"
    (found,) = parse_changes(f"x\n{text}y")
    assert (found.number, found.seconds, found.percent) == (1, 0.042, 0.394)


def test_a_cut_stands_alone_among_the_changes_around_it() -> None:
    calm, shaken = [0.0, 0.1, 0.2, 0.1, 0.1], [5.0, 6.0, 5.5, 6.5, 6.0]
    assert cuts([*calm, 4.0, *calm]) == [5], "weak, but nothing else moves"
    assert cuts([*shaken, 6.0, *shaken]) == []
    assert cuts([*shaken, 30.0, *shaken]) == [5]
    assert cuts([*calm, 30.0, 29.0, *calm]) == [], "a flash: there and back"
    assert cuts([*calm, 0.8, *calm]) == [], "noise"
    assert cuts([]) == [] == cuts([0.0])


@given(
    st.lists(st.integers(0, 3000), max_size=60),
    st.integers(1, 3000),
    st.sampled_from([Fraction(24000, 1001), Fraction(25), Fraction(60)]),
)
def test_shots_cover_the_film_and_keep_their_lengths(
    marks: list[int], num_frames: int, fps: Fraction
) -> None:
    spans = bounded([m for m in marks if m < num_frames], num_frames, fps)
    ends = [s.start + s.num_frames for s in spans]
    assert [s.start for s in spans] == [0, *ends[:-1]] and ends[-1] == num_frames
    assert max(s.num_frames for s in spans) <= 20 * fps
    if num_frames >= fps:
        assert min(s.num_frames for s in spans) >= int(fps)
