"""The hull of several sizes by one rule: the cheapest size at each score.

Each size's curve is PCHIP of ln(kbit/s) over VMAF through its measured points; a point that another
one of its size beats in both is left out. The hull takes the cheapest curve at each score, and says
nothing outside of what was measured. So two hulls differ by what was encoded and by nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import PchipInterpolator

Floats = NDArray[np.float64]
Size = tuple[int, int]
STEP = 0.1
"""VMAF points between the scores at which a hull is looked at."""
LEAST_SCORES = 10
"""Two hulls that share fewer of those are not compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizedPoint:
    """A measured encode: its size, kbit/s and score in VMAF points."""

    size: Size
    kbps: float
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Hull:
    """`ln_kbps` (N,) at `scores` (N,) in VMAF points, infinite where no size has the score; `sizes`
    are those that are the cheapest there.
    """

    scores: Floats
    ln_kbps: Floats
    sizes: tuple[Size, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """Where `above` takes over from `below` on the way up: the score and the bitrate."""

    below: Size
    above: Size
    score: float
    kbps: float


def hull_at(points: Sequence[SizedPoint], scores: Floats) -> Hull:
    """The hull of measured encodes at `scores`, which rise."""
    cheapest = np.full(len(scores), np.inf)
    names: list[Size] = [(0, 0)] * len(scores)
    for size in sorted({point.size for point in points}):
        cost = _curve([point for point in points if point.size == size], scores)
        for place in np.flatnonzero(cost < cheapest):
            cheapest[place], names[place] = cost[place], size
    return Hull(scores=scores, ln_kbps=cheapest, sizes=tuple(names))


def hull_of(points: Sequence[SizedPoint]) -> Hull:
    """The hull over all scores that were measured, every STEP points. A score that costs more than
    a higher one is taken at the price, and of the size, of the higher one.
    """
    measured = [point.score for point in points] or [0.0]
    low, high = math.ceil(min(measured) / STEP), math.floor(max(measured) / STEP)
    scores: Floats = STEP * np.arange(low, high + 1, dtype=np.float64)
    hull = hull_at(points, scores)
    known = np.flatnonzero(np.isfinite(hull.ln_kbps))
    cheapest, best = [], math.inf
    for place in reversed(known.tolist()):
        if hull.ln_kbps[place] < best:
            best, chosen = float(hull.ln_kbps[place]), place
        cheapest.append(chosen)
    cheapest.reverse()
    return Hull(
        scores=scores[known],
        ln_kbps=hull.ln_kbps[cheapest],
        sizes=tuple(hull.sizes[place] for place in cheapest),
    )


def crossings(hull: Hull) -> tuple[Crossing, ...]:
    """Where one size takes over from another, from the lowest score up."""
    found = []
    for place in range(1, len(hull.sizes)):
        below, above = hull.sizes[place - 1 : place + 1]
        if below != above:
            found.append(
                Crossing(
                    below=below,
                    above=above,
                    score=float(hull.scores[place]),
                    kbps=math.exp(hull.ln_kbps[place]),
                )
            )
    return tuple(found)


def bd_rate(test: Hull, anchor: Hull) -> float | None:
    """The mean difference of the bitrate at equal score, as a share: below zero, `test` takes fewer
    bits. None where the hulls hardly share a score.
    """
    costs = dict(zip(np.round(anchor.scores / STEP).astype(int), anchor.ln_kbps, strict=True))
    lost = [
        cost - costs[number]
        for number, cost in zip(np.round(test.scores / STEP).astype(int), test.ln_kbps, strict=True)
        if number in costs
    ]
    return math.expm1(sum(lost) / len(lost)) if len(lost) >= LEAST_SCORES else None


def _curve(points: Sequence[SizedPoint], scores: Floats) -> Floats:
    """ln of kbit/s of one size at each score; infinite outside of what was measured."""
    rising: list[tuple[float, float]] = []
    for score, kbps in sorted((point.score, point.kbps) for point in points):
        while rising and (rising[-1][1] >= kbps or rising[-1][0] == score):
            rising.pop()
        rising.append((score, kbps))
    if len(rising) < 2:
        return np.full(len(scores), np.inf)
    known, costs = [score for score, _ in rising], [math.log(kbps) for _, kbps in rising]
    found: Floats = PchipInterpolator(known, costs, extrapolate=False)(scores)
    return np.where(np.isnan(found), np.inf, found)
