"""The rules by which other tools look for a quality value, written anew from their descriptions.

Each is a `Rule` of `vmaf_train.results.foretelling`: from a dense curve and a target to the
position of the answer and of what was measured. They are yardsticks of `bench_find.py`, nothing
more: all search the same range in steps of one.

- `bisection`: halve the range until neighbours are known.
- `ab_av1`: ab-av1's crf-search. The middle first, then the far end of the range after a second
  value towards it, then straight lines between the two nearest values; ends when a score lies
  within a tolerance above the target, which doubles with every encode, or when neighbours are
  known. Without a tolerance: proven.
- `av1an`: Av1an's target quality. Four probes at most, the middle of the range twice, then lines;
  takes a probe within `[T, T + 0.5]`, else the one that came nearest, below the target or not.
- `plain_prior`: the corpus' mean curve of the encoder, shifted to go through what was measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from vmaf_train.prior import Prior
from vmaf_train.prior.process import interpolate
from vmaf_train.results.foretelling import Dense, Rule

Found = tuple[int, list[int]]


def bisection(tolerance: float | None = None) -> Rule:
    """Halve the range; with a tolerance stop at a score within it above the target."""

    def rule(curve: Dense, target: float) -> Found:
        met, missed, made = -1, len(curve.quality), []
        while missed - met > 1:
            i = (met + missed) // 2
            made.append(i)
            score = curve.score[i]
            met, missed = (i, missed) if score >= target else (met, i)
            if tolerance is not None and target <= score < target + tolerance:
                break
        return met, made

    return rule


def ab_av1(tolerance: Callable[[int], float]) -> Rule:
    """ab-av1's rule; `tolerance` above the target in VMAF points, of the number of the encode."""

    def rule(curve: Dense, target: float) -> Found:
        last = len(curve.quality) - 1
        made: list[int] = []
        i = (last + 1) // 2
        while True:
            made.append(i)
            score = float(curve.score[i])
            if score >= target:
                above = [j for j in made if j > i]
                worse = min(above, default=None)
                if score < target + tolerance(len(made)) or i == last or worse == i + 1:
                    return i, made
                following = _between(curve, target, i, worse) if worse is not None else last
                if worse is None and len(made) == 1 and i + 1 < last:
                    following = round(0.4 * i + 0.6 * last)
            else:
                better = max((j for j in made if j < i), default=None)
                if i == 0:
                    return -1, made
                if better is not None and better == i - 1:
                    return better, made
                following = _between(curve, target, better, i) if better is not None else 0
                if better is None and len(made) == 1 and i > 1:
                    following = round(0.4 * i)
            i = following

    return rule


def _between(curve: Dense, target: float, better: int, worse: int) -> int:
    """Where a straight line between two measured values meets the target, strictly between them."""
    high, low = float(curve.score[better]), float(curve.score[worse])
    share = (high - target) / (high - low) if high > low else 0.5
    return min(max(round(better + share * (worse - better)), better + 1), worse - 1)


def av1an(probes: int = 4, tolerance: float = 0.5) -> Rule:
    """Av1an's rule for a target range of `tolerance` points above the target."""

    def rule(curve: Dense, target: float) -> Found:
        low, high, made = 0, len(curve.quality) - 1, []
        while len(made) < probes and low <= high:
            i = (
                (low + high) // 2
                if len(made) < 2
                else _interpolated(curve, target, made, low, high)
            )
            made.append(i)
            score = float(curve.score[i])
            if target <= score <= target + tolerance:
                return i, made
            low, high = (i + 1, high) if score > target else (low, i - 1)
        return min(made, key=lambda j: abs(float(curve.score[j]) - target)), made

    return rule


def _interpolated(curve: Dense, target: float, made: list[int], low: int, high: int) -> int:
    """Through the measured scores (monotone cubic in the quality value), held in the bracket."""
    order = sorted(made, key=lambda j: float(curve.score[j]))
    scores = np.maximum.accumulate(curve.score[order] + 1e-6 * np.arange(len(order)))
    at = interpolate(scores, np.array(order, dtype=float), np.array([target]))[0]
    return int(min(max(round(float(at)), low), high))


def plain_prior(prior: Prior, statistic: str = "mean") -> Rule:
    """The mean curve, shifted by what was measured (straight lines between, constant beyond);
    proven.
    """

    def rule(curve: Dense, target: float) -> Found:
        mean = prior.curves[prior.relative(curve.encoder, curve.preset).curve]
        shape = interpolate(mean.quality, mean.z[statistic], curve.quality)
        wanted = prior.to_z(target)
        met, missed = -1, len(curve.quality)
        made: list[int] = []
        while missed - met > 1:
            known = sorted(made)
            offsets = [prior.to_z(float(curve.score[j])) - shape[j] for j in known]
            at = np.arange(len(shape))
            told = shape + (np.interp(at, known, offsets) if known else 0.0)
            inside = [j for j in range(met + 1, missed) if told[j] >= wanted]
            i = inside[-1] if inside else met + 1
            made.append(i)
            met, missed = (i, missed) if curve.score[i] >= target else (met, i)
        return met, made

    return rule


def never(_: int) -> float:
    """No tolerance."""
    return 0.0


def doubling(encode: int) -> float:
    """ab-av1's own tolerance: 0.1 points, twice as much with every encode."""
    return 0.1 * 2.0 ** (encode - 1)
