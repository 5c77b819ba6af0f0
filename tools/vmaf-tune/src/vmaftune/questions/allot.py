"""One slope over many curves: the fewest bits whose mean score meets a target.

Each shot has a curve of score against bits. Where every shot is at the same slope, points per bit,
no bit can be moved from one shot to another to raise the mean: the classic result of Lagrangian bit
allocation (Shoham and Gersho, IEEE Trans. ASSP 36(9), 1988).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HALVINGS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotPoint:
    """A setting of a shot: quality value, score in VMAF points, bits of the shot."""

    quality: float
    score: float
    bits: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotCurve:
    """What a shot can have; `num_frames` weighs its score."""

    num_frames: int
    points: tuple[ShotPoint, ...]


def allot(curves: Sequence[ShotCurve], target: float) -> list[ShotPoint]:
    """A point for each shot: the fewest bits at one slope whose mean over frames meets `target`;
    the best score of every shot where none does.
    """
    dearest = [max(c.points, key=lambda p: (p.score, -p.bits)) for c in curves]
    if mean_score(curves, dearest) < target:
        return dearest
    low, high = 0.0, _largest_price(curves)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if mean_score(curves, _at(curves, middle)) >= target:
            low = middle
        else:
            high = middle
    return _trimmed(curves, _at(curves, low), target)


def mean_score(curves: Sequence[ShotCurve], chosen: Sequence[ShotPoint]) -> float:
    """The mean over all frames, VMAF points."""
    total = sum(c.num_frames for c in curves)
    return sum(c.num_frames * p.score for c, p in zip(curves, chosen, strict=True)) / total


def _at(curves: Sequence[ShotCurve], price: float) -> list[ShotPoint]:
    """Each shot's best point when a bit costs `price` points times frames."""
    return [
        max(c.points, key=lambda p, c=c: c.num_frames * p.score - price * p.bits)  # type: ignore[misc]
        for c in curves
    ]


def _largest_price(curves: Sequence[ShotCurve]) -> float:
    frames = max(c.num_frames for c in curves)
    fewest = min(p.bits for c in curves for p in c.points)
    return 200.0 * frames / max(fewest, 1.0)


def _trimmed(
    curves: Sequence[ShotCurve], chosen: list[ShotPoint], target: float
) -> list[ShotPoint]:
    """Give back what is above the target: single shots to cheaper points, the most bits first."""
    found = list(chosen)
    while True:
        moves = []
        for i, curve in enumerate(curves):
            cheaper = [p for p in curve.points if p.bits < found[i].bits]
            if cheaper:
                point = max(cheaper, key=lambda p: p.bits)
                trial = [*found[:i], point, *found[i + 1 :]]
                if mean_score(curves, trial) >= target:
                    moves.append((found[i].bits - point.bits, i, point))
        if not moves:
            return found
        _, place, point = max(moves, key=lambda move: move[0])
        found[place] = point
