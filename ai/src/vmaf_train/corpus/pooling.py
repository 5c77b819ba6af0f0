"""How the scores of a cell's frames become one number, by the names of the statistics.

Percentiles interpolate linearly between frames, as numpy's do. Nothing here needs numpy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

Scores = Sequence[float]


def mean(scores: Scores) -> float:
    """Arithmetic mean: `vmaf_score` of a row."""
    return sum(scores) / len(scores)


def harmonic(scores: Scores) -> float:
    """Harmonic mean as libvmaf defines it, n / sum(1 / (x + 1)) - 1, so that a frame at 0 counts.

    Scores of -1 or less, which only unclipped ones can be, have none: nan.
    """
    if min(scores) <= -1:
        return math.nan
    return len(scores) / sum(1 / (score + 1) for score in scores) - 1


def percentile(scores: Scores, share: float) -> float:
    """The score below which `share` (0..1) of the frames lie."""
    ordered = sorted(scores)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def deviation(scores: Scores) -> float:
    """Population standard deviation over the frames."""
    centre = mean(scores)
    return math.sqrt(math.fsum((score - centre) ** 2 for score in scores) / len(scores))


def worst_window(scores: Scores, num_frames: int) -> float:
    """The lowest mean of `num_frames` frames in a row; of all of them where there are fewer."""
    width = min(num_frames, len(scores))
    total = math.fsum(scores[:width])
    lowest = total
    for leaves, enters in zip(scores, scores[width:], strict=False):
        total += enters - leaves
        lowest = min(lowest, total)
    return lowest / width


STATISTICS: Mapping[str, Callable[[Scores], float]] = {
    "mean": mean,
    "harmonic": harmonic,
    "min": min,
    "p1": lambda scores: percentile(scores, 0.01),
    "p5": lambda scores: percentile(scores, 0.05),
    "p10": lambda scores: percentile(scores, 0.10),
    "median": lambda scores: percentile(scores, 0.5),
    "std": deviation,
}
"""Statistic by name. The worst window also needs to know how many frames a second has."""
WORST_WINDOW = "worst-window"


def statistic(name: str, scores: Scores, *, frames_per_second: float) -> float:
    """`scores`, in the order of the frames, as one number; the worst window is one second long.

    Raises KeyError for an unknown name.
    """
    if name == WORST_WINDOW:
        return worst_window(scores, max(1, round(frames_per_second)))
    return STATISTICS[name](scores)


IN_ROW: Mapping[str, str] = {
    "vmaf_score": "mean",
    "vmaf_harmonic_mean": "harmonic",
    "vmaf_min": "min",
    "vmaf_p5": "p5",
}
"""The statistics that a cell row holds, by its fields."""


def pooled(scores: Scores) -> dict[str, float]:
    """The statistics of a cell row, by its fields."""
    return {field: STATISTICS[name](scores) for field, name in IN_ROW.items()}
