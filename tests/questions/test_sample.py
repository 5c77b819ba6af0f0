"""Windows that stand for a film: where they lie, their pooled scores, how many there are."""

from __future__ import annotations

import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest
from made_up import window_of_film
from vmaftune.cell import Color
from vmaftune.media.probe import Facts
from vmaftune.questions.sample import (
    FEWEST,
    pooled,
    sample,
    spread,
    standard_error,
    wanted,
)
from vmaftune.request.film import Film


def film(num_frames: int = 24 * 600, fps: str = "24") -> Film:
    whole = replace(
        window_of_film(0),
        name="film",
        sha256="ab" * 32,
        size_bytes=1000,
        num_frames=None,
        expected_frames=num_frames,
        fps=fps,
    )
    facts = Facts(
        width=640,
        height=360,
        pix_fmt="yuv420p",
        fps=fps,
        sar="1",
        color=Color(),
        num_packets=num_frames,
        stream_index=0,
        num_streams=1,
        interlaced=False,
        vfr_at=None,
    )
    return Film(whole=whole, facts=facts)


@pytest.mark.parametrize("num_slots", [1, 2, 3, 8, 12, 100, 257])
def test_every_beginning_of_the_order_is_spread_over_all_slots(num_slots: int) -> None:
    order = spread(num_slots)
    assert sorted(order) == list(range(num_slots))
    for count in (4, 8, 16, 64):
        if count <= num_slots:
            places = sorted(order[:count])
            gaps = [b - a for a, b in zip(places, places[1:], strict=False)]
            assert max(gaps) <= 4 * num_slots / count


def test_windows_are_named_by_time_and_belong_to_the_film() -> None:
    found = sample(film(), 2, most=12)
    assert not found.is_whole
    assert len(found.windows) == 12
    starts = sorted(w.start_frame for w in found.windows)
    assert {b - a for a, b in zip(starts, starts[1:], strict=False)} == {1200}
    first = min(found.windows, key=lambda w: w.start_frame)
    assert (first.name, first.group, first.num_frames) == ("film@00:00:24.000+48p12", "film", 48)
    assert max(starts) + 48 <= 24 * 600


def test_windows_never_share_a_frame_and_more_of_them_keep_the_earlier_ones() -> None:
    found = sample(film(24 * 60), 2)
    taken = [range(w.start_frame, w.start_frame + 48) for w in found.windows]
    frames = [frame for span in taken for frame in span]
    assert len(frames) == len(set(frames)) == 24 * 60


def test_a_short_film_is_taken_whole() -> None:
    found = sample(film(24 * 2 * FEWEST - 1), 2)
    assert found.is_whole
    assert found.windows == (found.film,)


def test_pooling_counts_frames_and_not_windows() -> None:
    windows = [[90.0, 90.0], [60.0]]
    assert pooled("mean", windows, 24) == pytest.approx(80)
    assert pooled("min", windows, 24) == 60
    assert pooled("worst-window", windows, 24) == 60
    assert pooled("worst-window", [[90.0] * 24 + [50.0] * 24], 24) == 50


@pytest.mark.parametrize("name", ["mean", "harmonic", "p5"])
def test_the_standard_error_is_that_of_many_samples(name: str) -> None:
    """Draw films' windows again and again: the spread of their scores is what one sample says."""
    rng = random.Random(1)
    kinds = [rng.gauss(85, 5) for _ in range(400)]
    windows = [[centre + rng.gauss(0, 1) for _ in range(10)] for centre in kinds]
    scores, errors = [], []
    for _ in range(150):
        chosen = rng.sample(windows, 20)
        scores.append(pooled(name, chosen, 24))
        errors.append(standard_error(name, chosen, 24))
    assert fmean(errors) == pytest.approx(stdev(scores), rel=0.35)


def test_a_film_that_is_measured_whole_has_no_error() -> None:
    windows = [[80.0], [90.0], [70.0]]
    assert standard_error("mean", windows, 24, share=1.0) == 0
    assert standard_error("mean", windows[:1], 24) == 0
    assert standard_error("mean", windows, 24) > 0


def test_windows_grow_by_what_the_error_asks_for_and_at_most_double() -> None:
    assert wanted(8, 0.4, 0.5) == 8
    assert wanted(8, 0.55, 0.5) == 11
    assert wanted(8, 5.0, 0.5) == 16
