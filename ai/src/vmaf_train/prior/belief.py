"""What is known of one content: the prior, conditioned on its measured cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vmaf_train.contract import ALIASES
from vmaf_train.prior.cells import STAND_INS, Measured
from vmaf_train.prior.model import Prior
from vmaf_train.prior.process import (
    KNOT_SHARE,
    MOTION_POINT,
    RATE,
    SCORE,
    WIDENING,
    Floats,
    Points,
    covariance,
    interpolate,
    join,
    place,
    take,
    variances,
)

Z80 = 1.2815515655446004
"""Standard deviations on either side that hold 80% of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Foretold:
    """What a belief says about encodes at `quality` (N,). `score`, `low` and `high` in VMAF points:
    median and 80% interval; `z`, `z_sd` the same on the scale where it is normal; `bits_per_pixel`
    is a median, `ln_bpp_sd` its spread.
    """

    quality: Floats
    score: Floats
    low: Floats
    high: Floats
    z: Floats
    z_sd: Floats
    bits_per_pixel: Floats
    ln_bpp_sd: Floats

    def chance(self, z_target: float) -> Floats:
        """Probability (N,) that each encode reaches a target that is given on the z scale."""
        standard = (self.z - z_target) / self.z_sd
        return np.array([0.5 * math.erfc(-s / math.sqrt(2)) for s in standard])


class Belief:
    """What is known of one content: the prior, conditioned on what was measured of it.

    Every observation adds a row to the inverse of the Cholesky factor (a rank-one update), so a
    step costs well under a millisecond. `notes` says what was borrowed.
    """

    def __init__(self, prior: Prior, statistic: str = "mean") -> None:
        """A fresh one. Raises ValueError for a statistic that the prior has no curves of."""
        trained = STAND_INS.get(statistic, statistic)
        if trained not in prior.hyper:
            known = ", ".join((*prior.hyper, *STAND_INS))
            raise ValueError(f"no statistic {statistic!r}; the prior knows {known}")
        self.prior = prior
        self.statistic = trained
        self._stands_in: tuple[str, ...] = ()
        if trained != statistic:
            said = f"the prior has no curves of {statistic}; it uses those of {trained}"
            self._stands_in = (said,)
        self.notes = list(self._stands_in)
        self._hyper = prior.hyper[trained]
        # the mean curves are known from as many contents only
        self._widening = WIDENING * (1 + 1 / prior.num_contents)
        self._ids: dict[tuple[str, ...], int] = {}
        self._seen: set[tuple[object, ...]] = set()
        self._points: Points | None = None
        self._inverse: Floats = np.zeros((0, 0))  # of the lower Cholesky factor of the observations
        self._white: Floats = np.zeros(0)  # the inverse applied to what deviates from the mean

    def copy(self) -> Belief:
        """A belief that goes its own way from here."""
        other = Belief(self.prior, self.statistic)
        other.notes, other._stands_in = list(self.notes), self._stands_in
        other._ids, other._seen = dict(self._ids), set(self._seen)
        other._points, other._inverse, other._white = self._points, self._inverse, self._white
        return other

    def observe(
        self,
        encoder: str,
        preset: str,
        quality: float,
        score: float | None = None,
        *,
        bits_per_pixel: float | None = None,
        motion2: float | None = None,
    ) -> None:
        """Take in one measured cell of this content: its score (VMAF points of this belief's
        statistic), its bits per pixel, the motion2 of the reference; None = not known. The same
        fact given twice counts once.
        """
        if motion2 is not None:
            value = (math.log1p(motion2) - self.prior.motion_mean) / self.prior.motion_sd
            self._add(MOTION_POINT, 0.0, value, ("motion",))
        z = None if score is None else self.prior.to_z(min(max(score, 0.0), 100.0))
        rate = math.log(bits_per_pixel) if bits_per_pixel else None
        if z is None and rate is None:
            return
        points, means = self._places(encoder, preset, np.array([float(quality)]))
        for output, found in ((SCORE, z), (RATE, rate)):
            if found is not None:
                fact = (output, encoder, preset, float(quality))
                self._add(take(points, [output]), means[output], found, fact)

    def observe_cell(self, cell: Measured) -> None:
        """Take in a measured cell, with the score of this belief's statistic."""
        self.observe(
            cell.encoder,
            cell.preset,
            cell.quality,
            cell.scores.get(self.statistic),
            bits_per_pixel=cell.bits_per_pixel,
            motion2=cell.motion2,
        )

    def predict(self, encoder: str, preset: str, qualities: Sequence[float] | Floats) -> Foretold:
        """Scores and bits of encodes at `qualities` (N,), made or not."""
        quality = np.asarray(qualities, dtype=np.float64)
        points, means = self._places(encoder, preset, quality)
        mean, variance = self._condition(points, means)
        n, sd = len(quality), np.sqrt(variance)
        z, z_sd = mean[:n], sd[:n]
        return Foretold(
            quality=quality,
            score=self.prior.to_score(z),
            low=self.prior.to_score(z - Z80 * z_sd),
            high=self.prior.to_score(z + Z80 * z_sd),
            z=z,
            z_sd=z_sd,
            bits_per_pixel=np.exp(mean[n:]),
            ln_bpp_sd=sd[n:],
        )

    def joint(
        self, settings: Sequence[tuple[str, str, Sequence[float] | Floats]]
    ) -> tuple[Floats, Floats]:
        """Mean (M,) and covariance (M, M) over several (encoder, preset, qualities): for each
        setting first z of the scores, then ln(bits per pixel). For draws that hang together.
        """
        parts = [
            self._places(encoder, preset, np.asarray(quality, dtype=np.float64))
            for encoder, preset, quality in settings
        ]
        points = join([part[0] for part in parts])
        means = np.concatenate([part[1] for part in parts])
        own = self._covariance(points, points)
        own[np.diag_indices(len(points))] += self._hyper.nugget[points.output] ** 2
        if self._points is None:
            return means, own
        weights = self._inverse @ self._covariance(self._points, points)
        return means + weights.T @ self._white, own - weights.T @ weights

    def notes_of(self, encoder: str, preset: str) -> tuple[str, ...]:
        """What this setting borrows: the statistic's curves, its own curve."""
        own = self.note_of(encoder, preset)
        return (*self._stands_in, *((own,) if own else ()))

    def note_of(self, encoder: str, preset: str) -> str | None:
        """A sentence when this setting's curve is a relative's, else None."""
        return self.prior.relative(encoder, preset).note

    def _number(self, *name: str) -> int:
        return self._ids.setdefault(name, len(self._ids))

    def _places(self, encoder: str, preset: str, quality: Floats) -> tuple[Points, Floats]:
        """Points and prior means, (2N,) each: the scores of `quality`, then the rates."""
        relative = self.prior.relative(encoder, preset)
        curve = self.prior.curves[relative.curve]
        own = ALIASES.get(encoder, encoder)
        if relative.note is not None and relative.note not in self.notes:
            self.notes.append(relative.note)
        along = quality * relative.factor
        z = interpolate(curve.quality, curve.z[self.statistic], along)
        rate = interpolate(curve.quality, curve.ln_bpp, along)
        n = len(quality)
        points = Points(
            output=np.repeat(np.array([SCORE, RATE]), n),
            encoder=np.full(2 * n, self._number(own)),
            preset=np.full(2 * n, self._number(own, preset)),
            w=np.tile(place(z), 2),
            x=np.tile(along / (KNOT_SHARE * curve.spacing), 2),
            odd_encoder=np.full(2 * n, float(not relative.knows_encoder)),
            odd_preset=np.full(2 * n, float(not relative.knows_preset)),
        )
        return points, np.concatenate([z, rate])

    def _covariance(self, left: Points, right: Points) -> Floats:
        result: Floats = self._widening * covariance(self._hyper, left, right, np)
        return result

    def _add(self, point: Points, mean: float, value: float, fact: tuple[object, ...]) -> None:
        if fact in self._seen:
            return
        self._seen.add(fact)
        own = float(self._covariance(point, point)[0, 0])
        own += float(self._hyper.nugget[point.output[0]]) ** 2
        deviation = value - mean
        if self._points is None:
            row = np.zeros(0)
            self._points = point
        else:
            row = self._inverse @ self._covariance(self._points, point)[:, 0]
            self._points = join([self._points, point])
        left = math.sqrt(max(own - float(row @ row), 1e-12))
        n = len(row)
        inverse = np.zeros((n + 1, n + 1))
        inverse[:n, :n] = self._inverse
        inverse[n, :n] = -(row @ self._inverse) / left
        inverse[n, n] = 1 / left
        self._inverse = inverse
        self._white = np.append(self._white, (deviation - float(row @ self._white)) / left)

    def _condition(self, points: Points, means: Floats) -> tuple[Floats, Floats]:
        """Posterior means and variances (jitter included) at `points`."""
        own = self._widening * variances(self._hyper, points)
        own = own + self._hyper.nugget[points.output] ** 2
        if self._points is None:
            return means, own
        weights = self._inverse @ self._covariance(self._points, points)
        return means + weights.T @ self._white, np.maximum(own - (weights**2).sum(axis=0), 1e-10)
