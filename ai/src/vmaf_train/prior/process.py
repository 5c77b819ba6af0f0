"""The Gaussian process behind `quality_prior`: its points, its covariance, curves between knots.

Pure arithmetic on arrays. `covariance` is written once for numpy and torch: the same formula
answers a search and is differentiated in training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Either = Any
"""An array of numpy or a tensor of torch, what holds such, or the library itself."""

SCORE, RATE, MOTION = 0, 1, 2
"""The three outputs of the process: z of the score, ln(bits per pixel), ln(1 + motion2)."""
CENTRE, WIDTH = 2.0, 1.5
"""The place along a mean curve is w = (z - CENTRE) / WIDTH, about -1.5..0.6 in the corpus."""
KNOT_SHARE = 0.45
"""Length of the fine wiggle along the quality value, as a share of the distance between knots."""
MOTION_NUGGET = 0.05
"""Standard deviation of the motion between rows of one reference, in deviations of the corpus."""
WIDENING = 1.5
"""Factor on all covariances of a belief: contents differ from those of the corpus by more than
those do from each other. With it the 95% intervals hold 92% and more on groups held out; without,
90% after one probe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hyper:
    """The numbers of one statistic's process; see `covariance`.

    `content` (5, 5), `encoder` (4, 4) and `preset` (4, 4) are covariances of the coefficients of
    the lines: score offset, score slope, rate offset, rate slope, motion. `bend` (3, 3) is the
    standard deviation of the smooth bends by level and output, `length` (3,) their length along w,
    `wiggle` (3,) the standard deviation of the fine wiggle, `spread` (2,) bends the scale of the
    score's deviations along w, `nugget` (3,) is the jitter between neighbours. `strange_encoder`
    and `strange_preset` (4,) are variances of the line's coefficients between the mean curves of
    two encoders, and of two presets of one.
    """

    content: Floats
    encoder: Floats
    preset: Floats
    bend: Floats
    length: Floats
    wiggle: Floats
    spread: Floats
    nugget: Floats
    strange_encoder: Floats
    strange_preset: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """N points of the process: `output` SCORE, RATE or MOTION; numbers of encoder and preset; place
    `w`; `x` = quality value in lengths of the wiggle; 1.0 in `odd_encoder` and `odd_preset` where
    the mean curve is a relative's.
    """

    output: Ints
    encoder: Ints
    preset: Ints
    w: Floats
    x: Floats
    odd_encoder: Floats
    odd_preset: Floats

    def __len__(self) -> int:
        return len(self.output)


def place(z: Floats) -> Floats:
    """Where along a mean curve a point lies: w, from the mean curve's z."""
    return (z - CENTRE) / WIDTH


def covariance(hyper: Either, left: Either, right: Either, xp: Either) -> Either:
    """Covariance (N, M) of two sets of Points, jitter not included. `xp` is numpy or torch: one
    formula answers a search and is differentiated in training.
    """
    here, there = _basis(hyper, left, xp), _basis(hyper, right, xp)
    same_encoder = _same(left.encoder, right.encoder) * (_lines(left) * _lines(right).T)
    same_preset = _same(left.preset, right.preset) * same_encoder
    total = here @ hyper.content @ there.T
    total = total + same_encoder * (here[:, :4] @ hyper.encoder @ there[:, :4].T)
    total = total + same_preset * (here[:, :4] @ hyper.preset @ there[:, :4].T)
    odd = same_encoder * (left.odd_encoder[:, None] * right.odd_encoder[None, :])
    total = total + odd * ((here[:, :4] * hyper.strange_encoder) @ there[:, :4].T)
    odd = same_preset * (left.odd_preset[:, None] * right.odd_preset[None, :])
    total = total + odd * ((here[:, :4] * hyper.strange_preset) @ there[:, :4].T)
    same_output = _same(left.output, right.output)
    scale = _scale(hyper, left, xp)[:, None] * _scale(hyper, right, xp)[None, :]
    away = (left.w[:, None] - right.w[None, :]) / hyper.length[left.output][:, None]
    strength = hyper.bend[:, left.output] ** 2
    levels = strength[0][:, None] + strength[1][:, None] * same_encoder
    levels = levels + strength[2][:, None] * same_preset
    total = total + same_output * scale * levels * xp.exp(-0.5 * away**2)
    apart = left.x[:, None] - right.x[None, :]
    fine = (hyper.wiggle[left.output] ** 2)[:, None] * xp.exp(-0.5 * apart**2)
    return total + same_output * same_preset * fine


def variances(hyper: Hyper, points: Points) -> Floats:
    """The diagonal of `covariance(hyper, points, points)`."""
    basis = _basis(hyper, points, np)
    first = basis[:, :4]
    line = (points.output != MOTION).astype(np.float64)
    total = ((basis @ hyper.content) * basis).sum(axis=1)
    levels = hyper.encoder + hyper.preset
    total += line * ((first @ levels) * first).sum(axis=1)
    total += line * points.odd_encoder * (first**2 @ hyper.strange_encoder)
    total += line * points.odd_preset * (first**2 @ hyper.strange_preset)
    bends = (hyper.bend[:, points.output] ** 2 * np.stack([line * 0 + 1, line, line])).sum(axis=0)
    total += _scale(hyper, points, np) ** 2 * bends
    result: Floats = total + line * hyper.wiggle[points.output] ** 2
    return result


def _same(left: Either, right: Either) -> Either:
    return (left[:, None] == right[None, :]) * 1.0


def _lines(points: Either) -> Either:
    """(N, 1): 1.0 except for the motion, which belongs to no encoder."""
    return ((points.output != MOTION) * 1.0)[:, None]


def _scale(hyper: Either, points: Either, xp: Either) -> Either:
    """How far scores scatter along the mean curve, held at its value beyond the trained range."""
    w = xp.clip(points.w, -2.0, 0.8)
    bent = xp.exp(hyper.spread[0] * w + hyper.spread[1] * w**2)
    score = (points.output == SCORE) * 1.0
    return bent * score + (1 - score)


def _basis(hyper: Either, points: Either, xp: Either) -> Either:
    score = (points.output == SCORE) * _scale(hyper, points, xp)
    rate = (points.output == RATE) * 1.0
    motion = (points.output == MOTION) * 1.0
    columns = [score, score * points.w, rate, rate * points.w, motion]
    return xp.stack(columns, 1)


def take(points: Points, which: list[int]) -> Points:
    return Points(**{name: getattr(points, name)[which] for name in Points.__slots__})


def join(parts: list[Points]) -> Points:
    return Points(
        **{name: np.concatenate([getattr(p, name) for p in parts]) for name in Points.__slots__}
    )


MOTION_POINT = Points(
    output=np.array([MOTION]),
    encoder=np.array([-1]),
    preset=np.array([-1]),
    w=np.zeros(1),
    x=np.zeros(1),
    odd_encoder=np.zeros(1),
    odd_preset=np.zeros(1),
)


def interpolate(knots: Floats, values: Floats, at: Floats) -> Floats:
    """Monotone cubic interpolation (Fritsch and Carlson 1980) of `values` at rising `knots`; beyond
    the ends the line of the end. One knot gives its value everywhere.
    """
    if len(knots) == 1:
        return np.full(len(at), float(values[0]))
    steps = np.diff(knots)
    slopes = np.diff(values) / steps
    tangents = _tangents(steps, slopes)
    i = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, len(steps) - 1)
    t = (at - knots[i]) / steps[i]
    left, right = values[i], values[i + 1]
    inside = (
        left * (1 + 2 * t) * (1 - t) ** 2
        + right * t**2 * (3 - 2 * t)
        + steps[i] * (tangents[i] * t * (1 - t) ** 2 - tangents[i + 1] * t**2 * (1 - t))
    )
    before = values[0] + tangents[0] * (at - knots[0])
    after = values[-1] + tangents[-1] * (at - knots[-1])
    result: Floats = np.where(at < knots[0], before, np.where(at > knots[-1], after, inside))
    return result


def _tangents(steps: Floats, slopes: Floats) -> Floats:
    tangents = np.empty(len(steps) + 1)
    tangents[0], tangents[-1] = slopes[0], slopes[-1]
    if len(slopes) == 1:
        return tangents
    first, second = 2 * steps[1:] + steps[:-1], steps[1:] + 2 * steps[:-1]
    same_way = slopes[:-1] * slopes[1:] > 0
    safe = np.where(same_way, slopes[:-1], 1.0), np.where(same_way, slopes[1:], 1.0)
    inner = (first + second) / (first / safe[0] + second / safe[1])
    tangents[1:-1] = np.where(same_way, inner, 0.0)
    return tangents
