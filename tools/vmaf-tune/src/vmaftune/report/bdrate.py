"""Rate-quality curves: Bjøntegaard delta rate, the convex hull, and the quality value that reaches
a target.

Pure numbers, no files. A curve is interpolated with PCHIP (piecewise cubic Hermite, monotone
between monotone points) over the VMAF axis with the natural logarithm of the bitrate as the value,
as in the JCT-VC common test conditions (JCTVC-L1100) and their successors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import PchipInterpolator

from vmaftune.metrics import VMAF_SCALE, Scale

MIN_COMMON_VMAF = VMAF_SCALE.least_common
"""Curves that share less than this many VMAF points are not compared: the mean would rest on next
to nothing.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateCurve:
    """ln(kbps) over VMAF for one encoder and preset on one source; `integral` is its
    antiderivative.
    """

    low: float
    high: float
    integral: Callable[[float], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BdRate:
    """Bits of one curve against another at equal VMAF.

    `log_ratio` is the mean of ln(test / anchor) over the common VMAF range, None when it cannot be
    given, and then `reason` says why. `common` is the size of that range in VMAF points, 0 without
    one.
    """

    log_ratio: float | None
    common: float
    reason: str | None = None

    @property
    def percent(self) -> float | None:
        """BD-rate in percent: negative = the test curve needs fewer bits."""
        return None if self.log_ratio is None else 100 * math.expm1(self.log_ratio)


def rate_curve(points: Iterable[tuple[float, float]]) -> RateCurve | None:
    """The curve through `points`, pairs of (kbps > 0, VMAF); None with fewer than two different
    VMAF values.

    Of points with equal VMAF only the cheapest counts.
    """
    cheapest: dict[float, float] = {}
    for kbps, vmaf in sorted(points):
        if kbps > 0:
            cheapest.setdefault(vmaf, kbps)
    if len(cheapest) < 2:
        return None
    quality = sorted(cheapest)
    log_rate = PchipInterpolator(quality, [math.log(cheapest[q]) for q in quality])
    return RateCurve(low=quality[0], high=quality[-1], integral=log_rate.antiderivative())


def compare(test: RateCurve | None, anchor: RateCurve | None, scale: Scale = VMAF_SCALE) -> BdRate:
    """BD-rate of `test` against `anchor`: mean difference of ln(bitrate) over the VMAF range both
    reach, or that of another `scale`, whose values the curves hold times its sign.

    Source: G. Bjøntegaard, VCEG-M33 (2001), with the piecewise cubic of JCTVC-L1100.
    """
    if test is None or anchor is None:
        return BdRate(
            log_ratio=None,
            common=0.0,
            reason=f"fewer than two usable points on {_which(test, anchor)}",
        )
    low, high = max(test.low, anchor.low), min(test.high, anchor.high)
    common = max(high - low, 0.0)
    if common < scale.least_common:
        ends = [scale.sign * end for end in (test.low, test.high, anchor.low, anchor.high)]
        shown = [f"{end:.{max(1, scale.digits - 1)}f}" for end in ends]
        ranges = f"{scale.label} {shown[0]} to {shown[1]} against {shown[2]} to {shown[3]}"
        return BdRate(log_ratio=None, common=common, reason=f"the curves do not overlap: {ranges}")
    areas = [float(curve.integral(high) - curve.integral(low)) for curve in (test, anchor)]
    return BdRate(log_ratio=(areas[0] - areas[1]) / common, common=common)


def _which(test: RateCurve | None, anchor: RateCurve | None) -> str:
    """Which curve is missing, in words."""
    if test is None and anchor is None:
        return "both curves"
    return "the test curve" if test is None else "the anchor curve"


def between(points: Iterable[tuple[float, float]], at: float) -> float | None:
    """The value at `at` of the PCHIP curve through `points` of (x, value); None outside them."""
    known = dict(sorted(points))
    if at in known:
        return known[at]
    xs, values = list(known), list(known.values())
    if len(xs) < 2 or not xs[0] <= at <= xs[-1]:
        return None
    return float(PchipInterpolator(xs, values)(at))


def quality_for(
    targets: Sequence[float], points: Iterable[tuple[float, float]], step: float
) -> list[float | None]:
    """Per target VMAF, the coarsest quality value that still reaches it, from `points` of (quality
    value, VMAF).

    Between the measured values the curve is PCHIP, read every `step` of the encoder's own units;
    outside them nothing is guessed: None where no value of the swept range reaches the target, the
    largest swept value where all do.
    """
    measured = dict(sorted(points))
    if not measured:
        return [None] * len(targets)
    values, scores = list(measured), list(measured.values())
    num_steps = round((values[-1] - values[0]) / step)
    grid = np.round(np.linspace(values[0], values[-1], num_steps + 1), 2)
    vmaf = PchipInterpolator(values, scores)(grid) if len(values) > 1 else np.array(scores)
    found: list[float | None] = []
    for target in targets:
        reached = np.flatnonzero(vmaf >= target)
        found.append(float(grid[reached[-1]]) if len(reached) else None)
    return found


def convex_hull(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the upper convex hull of (kbps, VMAF) over ln(kbps), cheapest first: what no mix
    of settings beats.

    The hull ends at the highest VMAF: points that cost more and give less are not on it.
    """
    hull: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][0] <= 0 or (hull and points[index][1] <= points[hull[-1]][1]):
            continue
        while len(hull) >= 2 and _slope(points, hull[-2], hull[-1]) <= _slope(
            points, hull[-2], index
        ):
            hull.pop()
        hull.append(index)
    return hull


def _slope(points: Sequence[tuple[float, float]], start: int, end: int) -> float:
    run = math.log(points[end][0]) - math.log(points[start][0])
    return (points[end][1] - points[start][1]) / run if run > 0 else math.inf
