"""BD-rate against published figures, and what it does where no figure can be given."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vmaftune.report.bdrate import compare, convex_hull, quality_for, rate_curve

# Example data of the package `bjontegaard` 1.3.0 (its README; ffmpeg libx265 presets) with its
# PCHIP result, which its authors checked against the Excel sheet of JVET-T2010 to ten decimals;
# then the four points that Bjontegaard metric implementations are usually tried on (VCEG example,
# kbit/s and dB), with the same package's result.
X265 = [(9487.76, 40.037), (4593.60, 38.615), (2486.44, 36.845), (1358.24, 34.851)]
X265_OTHER = [(9787.80, 40.121), (4469.00, 38.651), (2451.52, 36.970), (1356.24, 34.987)]
VCEG = [(686.76, 40.28), (309.58, 37.18), (157.11, 34.24), (85.95, 31.42)]
VCEG_OTHER = [(893.34, 40.39), (407.8, 37.21), (204.93, 34.17), (112.75, 31.24)]


@pytest.mark.parametrize(
    ("anchor", "test", "published", "common"),
    [
        (X265, X265_OTHER, -4.417485350589045, 40.037 - 34.987),
        (VCEG, VCEG_OTHER, 31.379878202397627, 40.28 - 31.42),
    ],
)
def test_published_figures(
    anchor: list[tuple[float, float]],
    test: list[tuple[float, float]],
    published: float,
    common: float,
) -> None:
    found = compare(rate_curve(test), rate_curve(anchor))
    assert found.percent == pytest.approx(published, abs=1e-9)
    assert found.reason is None and found.common == pytest.approx(common)


def test_the_order_of_points_does_not_matter() -> None:
    assert compare(rate_curve(X265[::-1]), rate_curve(VCEG)) == compare(
        rate_curve(X265), rate_curve(VCEG[::-1])
    )


@given(
    factor=st.floats(0.05, 20),
    quality=st.lists(st.floats(20, 99), min_size=3, max_size=7, unique_by=lambda q: round(q)),
)
def test_a_curve_that_needs_k_times_the_bits_everywhere_has_that_bd_rate(
    factor: float, quality: list[float]
) -> None:
    points = [(math.exp(q / 12), q) for q in quality]
    found = compare(rate_curve((factor * r, q) for r, q in points), rate_curve(points))
    if max(quality) - min(quality) < 1:
        assert found.percent is None
    else:
        assert found.percent == pytest.approx(100 * (factor - 1), rel=1e-6, abs=1e-6)
        assert found.common == pytest.approx(max(quality) - min(quality))


def test_the_other_way_round_is_the_negative_log_ratio() -> None:
    one, other = rate_curve(X265), rate_curve(X265_OTHER)
    forth, back = compare(one, other).log_ratio, compare(other, one).log_ratio
    assert forth is not None and back == pytest.approx(-forth)


def test_no_figure_without_overlap() -> None:
    low, high = rate_curve([(100, 30), (200, 60)]), rate_curve([(300, 70.5), (900, 95)])
    found = compare(low, high)
    assert found.percent is None and found.common == 0
    assert found.reason == "the curves do not overlap: VMAF 30.0 to 60.0 against 70.5 to 95.0"
    touching = compare(rate_curve([(100, 30), (200, 60.5)]), rate_curve([(90, 60), (300, 90)]))
    assert touching.percent is None and touching.reason


def test_no_figure_with_one_point() -> None:
    one, two = rate_curve([(100, 50), (120, 50)]), rate_curve([(100, 40), (200, 60)])
    assert one is None
    assert compare(one, two).reason == "fewer than two usable points on the test curve"
    assert compare(two, one).reason == "fewer than two usable points on the anchor curve"
    assert compare(one, one).reason == "fewer than two usable points on both curves"


def test_of_equal_scores_the_cheapest_counts() -> None:
    plain = [(100.0, 40.0), (200.0, 60.0), (400.0, 80.0)]
    assert compare(rate_curve([*plain, (999.0, 60.0)]), rate_curve(plain)).log_ratio == 0


def test_quality_for_a_target() -> None:
    points = [(20.0, 98.0), (30.0, 90.0), (40.0, 70.0)]
    found = quality_for([99, 98, 90, 70, 60], points, 0.1)
    assert found == [None, 20.0, 30.0, 40.0, 40.0]
    between = quality_for([94], points, 0.1)[0]
    assert between is not None and 24 < between < 28
    assert quality_for([94], points, 1.0) == [math.floor(between)]


def test_quality_for_takes_the_coarsest_of_a_curve_that_is_not_monotone() -> None:
    assert quality_for([91, 95], [(10.0, 95.0), (20.0, 85.0), (30.0, 91.0), (40.0, 80.0)], 1.0) == [
        30.0,
        10.0,
    ]


def test_quality_for_one_point_and_none() -> None:
    assert quality_for([80, 90], [(23.0, 85.0)], 0.1) == [23.0, None]
    assert quality_for([80], [], 0.1) == [None]


def test_convex_hull() -> None:
    points = [
        (100.0, 50.0),
        (200.0, 60.0),
        (400.0, 80.0),
        (800.0, 79.0),
        (1600.0, 90.0),
        (100.0, 40.0),
    ]
    assert convex_hull(points) == [0, 2, 4]
    assert convex_hull([]) == []


@given(st.lists(st.tuples(st.floats(1, 1e5), st.floats(0, 100)), min_size=1, max_size=30))
def test_no_point_lies_above_the_hull(points: list[tuple[float, float]]) -> None:
    hull = [points[i] for i in convex_hull(points)]
    assert max(v for _, v in hull) == max(v for _, v in points)
    for (r0, v0), (r1, v1) in zip(hull, hull[1:], strict=False):
        for rate, vmaf in points:
            if r0 <= rate <= r1:
                share = (math.log(rate) - math.log(r0)) / (math.log(r1) - math.log(r0))
                assert vmaf <= v0 + share * (v1 - v0) + 1e-6
