"""Windows that stand for a film: evenly spread, added until the pooled score is known well enough.

The order of the windows is such that any number of them, from the first on, is spread over the
whole film. So windows can be added to those that are measured, and nothing is measured twice.

A film's score is pooled from the frames of its windows. How far that may be from the score of all
windows is estimated by drawing windows with replacement (a bootstrap over windows, not frames: the
frames of one window are alike).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vmaf_train.corpus import pooling

from vmaftune.cell import Window
from vmaftune.metrics import Columns, Metric
from vmaftune.request.film import Film

FEWEST = 8
"""Windows before a spread is believed."""
PAD = 12
"""Frames around a window that are encoded and not scored: an encode of the window alone is up to a
point worse than the same frames inside a whole encode, and half a second around it takes most of
that away (`make bench-encode`).
"""
DRAWS, SEED = 400, 0
Z95 = 1.959963984540054
"""Standard errors on either side that hold 95% of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A film and the windows that may stand for it, in the order in which they are taken.

    `film` is the whole film as one window; it is the only one where `is_whole`.
    """

    film: Window
    windows: tuple[Window, ...]
    is_whole: bool

    @property
    def num_frames(self) -> int:
        """Frames of the film."""
        return self.film.expected_frames


def spread(num_slots: int) -> list[int]:
    """Numbers 0..num_slots-1 in an order of which every beginning is evenly spread.

    The bit-reversed order of the next power of two (van der Corput's sequence in base 2), without
    the numbers beyond the end.
    """
    bits = max(1, (num_slots - 1).bit_length())
    order = (int(f"{i:0{bits}b}"[::-1], 2) for i in range(2**bits))
    return [i for i in order if i < num_slots]


def sample(film: Film, seconds: float, *, most: int | None = None) -> Sample:
    """Windows of `seconds` over the film, each in the middle of its share of it.

    A film that is shorter than FEWEST windows need is taken whole. `most` limits their number.
    """
    length = max(1, round(seconds * film.whole.frame_rate))
    total = film.num_frames
    slots = total // length
    if slots < FEWEST:
        return whole(film)
    wanted = min(slots, most) if most else slots
    share = total / wanted
    starts = [min(total - length, int(i * share + (share - length) / 2)) for i in range(wanted)]
    windows = tuple(film.cut(starts[i], length, pad=PAD) for i in spread(wanted))
    return Sample(film=film.whole, windows=windows, is_whole=False)


def whole(film: Film) -> Sample:
    """The whole film as its only window."""
    return Sample(film=film.whole, windows=(film.whole,), is_whole=True)


def pooled(name: str, windows: Sequence[Sequence[float]], frames_per_second: float) -> float:
    """The statistic `name` over the frames of all windows, in VMAF points.

    `worst-window` is the lowest mean of a window where there are several, else of one second.
    """
    if name == "worst-window" and len(windows) > 1:
        return min(pooling.mean(scores) for scores in windows)
    frames = [score for scores in windows for score in scores]
    return pooling.statistic(name, frames, frames_per_second=frames_per_second)


def pooled_metric(
    metric: Metric, name: str, windows: Sequence[Columns], frames_per_second: float
) -> float | None:
    """A statistic of a metric over the frames of all windows, as `pooled`; None for no error."""
    if name == pooling.WORST_WINDOW:
        means = [metric.mean(columns) for columns in windows]
        known = [mean for mean in means if mean is not None]
        worst = min if metric.is_better_high else max
        return worst(known) if known else None
    joined = {
        column: [value for columns in windows for value in columns[column]]
        for column in metric.columns
    }
    return metric.pool(name, joined, frames_per_second)


def standard_error(
    name: str,
    windows: Sequence[Sequence[float]],
    frames_per_second: float,
    *,
    share: float = 0.0,
) -> float:
    """Standard error of the pooled statistic, VMAF points; 0 for a single window.

    `share` is the part of the film that the windows hold: of a film that is measured whole nothing
    is left to guess.
    """
    if len(windows) < 2:
        return 0.0
    if name == "mean":
        found = _error_of_mean([pooling.mean(scores) for scores in windows])
    else:
        found = _bootstrap(name, windows, frames_per_second)
    return found * math.sqrt(max(0.0, 1 - share))


def wanted(num_windows: int, error: float, within: float) -> int:
    """Windows that bring a standard error down to `within`; at most twice as many as now."""
    if error <= within:
        return num_windows
    need = math.ceil(1.1 * num_windows * (error / within) ** 2)
    return min(need, 2 * num_windows)


def _error_of_mean(means: Sequence[float]) -> float:
    centre = sum(means) / len(means)
    variance = sum((mean - centre) ** 2 for mean in means) / (len(means) - 1)
    return math.sqrt(variance / len(means))


def _bootstrap(name: str, windows: Sequence[Sequence[float]], frames_per_second: float) -> float:
    import numpy as np

    rng = np.random.default_rng(SEED)
    count = len(windows)
    drawn = []
    for _ in range(DRAWS):
        chosen = [windows[i] for i in rng.integers(0, count, count)]
        drawn.append(pooled(name, chosen, frames_per_second))
    return float(np.std(drawn, ddof=1))
