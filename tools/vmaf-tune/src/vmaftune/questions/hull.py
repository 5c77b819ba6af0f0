"""Which encode teaches most about the hull of a ladder: a policy without files or engine.

    HullSearch(prior, ...)    ask --> size, quality --(encode, score)--> tell    until ask is None

Each size has a belief of its own: what the prior expects of the encoder, conditioned on that size's
encodes. The best score that any size is believed to give at a bitrate is the envelope. The next
encode is the one that may lie furthest above it: a point on the envelope that is uncertain, or one
of a size that could still be better than thought. A size that cannot reach the envelope costs no
encode.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vmaf_train.prior import Z80, Belief, Prior

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

Size = tuple[int, int]
LOSS = 0.4
"""A size of a share r of the lines is expected to reach at most 1 - LOSS (1 - r)^2 of 100 points;
this is raised as soon as a score comes near."""
ROOM = 0.03
"""How far above its best score a size is believed to reach at least, of 100 points."""
GAIN = 0.5
"""Nothing more is asked when no encode may lie this far above the envelope, VMAF points."""
MARGIN = 3.0
"""How far outside the ladder's scores the hull is looked at, VMAF points."""
EACH = 5
"""Encodes of the window set that are made at most, for each size."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SizePoint:
    """A measured encode: its size, quality value, score (VMAF points) and bitrate."""

    size: Size
    quality: float
    score: float
    kbps: float
    motion2: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCurve:
    """What is believed of one size at `quality` (N,): score in VMAF points, its spread (what the
    bitrate may be off by included), ln of kbit/s.
    """

    size: Size
    quality: Sequence[float]
    score: Floats
    spread: Floats
    ln_kbps: Floats

    def score_at(self, ln_kbps: Floats) -> Floats:
        """The score at each bitrate; below the smallest one a steep fall."""
        import numpy as np

        order = np.argsort(self.ln_kbps)
        rates, scores = self.ln_kbps[order], np.maximum.accumulate(self.score[order])
        found: Floats = np.interp(ln_kbps, rates, scores)
        return np.where(ln_kbps < rates[0], found - 100 * (rates[0] - ln_kbps), found)

    def ln_kbps_of(self, quality: float) -> float:
        """ln of kbit/s at a quality value."""
        return float(self.ln_kbps[list(self.quality).index(quality)])

    def quality_of(self, ln_kbps: float) -> float:
        """The quality value whose bitrate is believed to be the nearest."""
        import numpy as np

        return self.quality[int(np.argmin(np.abs(self.ln_kbps - ln_kbps)))]

    def quality_for(self, score: float) -> float:
        """The coarsest quality value that is believed to reach a score; the finest where none."""
        reached = [q for q, known in zip(self.quality, self.score, strict=True) if known >= score]
        return reached[-1] if reached else self.quality[0]

    def ln_kbps_for(self, score: float) -> float:
        """ln of kbit/s at a score; infinite where the size does not reach it."""
        import numpy as np

        order = np.argsort(self.score)
        if score > self.score[order[-1]]:
            return math.inf
        return float(np.interp(score, self.score[order], self.ln_kbps[order]))


class HullSearch:
    """The search for one film, encoder and preset. `sizes` are those of encodes, the first being
    the one that is scored, and `frame_rates` their frames per second; `qualities` rise; `low` and
    `high` bound the scores of the ladder, and `min_kbps` and `max_kbps` its bitrates.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        encoder: str,
        preset: str,
        display: Size,
        sizes: Sequence[Size],
        frame_rates: Mapping[Size, float],
        qualities: Sequence[float],
        low: float,
        high: float,
        min_kbps: float = 0.0,
        max_kbps: float = math.inf,
        statistic: str = "mean",
    ) -> None:
        self.encoder, self.preset, self.statistic = encoder, preset, statistic
        self.sizes, self.qualities = tuple(sizes), tuple(qualities)
        self.points: list[SizePoint] = []
        self.most = EACH * len(self.sizes)
        self._prior, self._display, self._frame_rates = prior, display, frame_rates
        self._low, self._high = low, high
        self._min_kbps, self._max_kbps = min_kbps, max_kbps
        self._curves: dict[Size, SizeCurve] = {}

    def tell(self, point: SizePoint) -> None:
        """Take in a measured encode, asked for or stored."""
        self.points.append(point)
        self._curves.clear()  # motion tells about every size

    def ask(self) -> tuple[Size, float] | None:
        """The encode to make next; None when the hull is known well enough."""
        if len(self.points) >= self.most:
            return None
        gains = [self._gain(self.curve(size)) for size in self.sizes]
        best = max(range(len(gains)), key=lambda i: gains[i][0])
        gain, quality = gains[best]
        return (self.sizes[best], quality) if gain >= GAIN else None

    def curve(self, size: Size) -> SizeCurve:
        """What is believed of one size."""
        if size not in self._curves:
            self._curves[size] = self._believed(size)
        return self._curves[size]

    def ceiling(self, size: Size) -> float:
        """The best score that is expected of a size at any bitrate, as a share of 100 points."""
        share = size[1] / self._display[1]
        expected = 1 - LOSS * max(0.0, 1 - share) ** 2
        scores = [point.score for point in self.points if point.size == size]
        return min(1.0, max([expected, *(score / 100 + ROOM for score in scores)]))

    def _gain(self, curve: SizeCurve) -> tuple[float, float]:
        """How far above the envelope an encode of this size may lie at most, and where."""
        import numpy as np

        envelope = np.max([self.curve(s).score_at(curve.ln_kbps) for s in self.sizes], axis=0)
        gain = curve.score + curve.spread - envelope
        kbps = np.exp(curve.ln_kbps)
        made = {point.quality for point in self.points if point.size == curve.size}
        is_outside = (envelope < self._low - MARGIN) | (envelope > self._high + MARGIN)
        is_outside |= (kbps < self._min_kbps) | (kbps > self._max_kbps)
        is_outside |= np.array([quality in made for quality in curve.quality])
        gain = np.where(is_outside, -math.inf, gain)
        best = int(np.argmax(gain))
        return float(gain[best]), curve.quality[best]

    def _believed(self, size: Size) -> SizeCurve:
        import numpy as np

        ceiling = self.ceiling(size)
        told = self._belief(size, ceiling).predict(self.encoder, self.preset, self.qualities)
        score = told.score * ceiling
        ln_kbps = np.log(told.bits_per_pixel * self._pixel_rate(size) / 1000)
        of_score = (told.high - told.low) * ceiling / (2 * Z80)
        slope = np.abs(np.gradient(score, ln_kbps)) if len(score) > 1 else np.zeros(len(score))
        spread = np.hypot(of_score, slope * told.ln_bpp_sd)
        return SizeCurve(
            size=size, quality=self.qualities, score=score, spread=spread, ln_kbps=ln_kbps
        )

    def _belief(self, size: Size, ceiling: float) -> Belief:
        belief = Belief(self._prior, self.statistic)
        for point in self.points:
            if point.size == size:
                belief.observe(
                    self.encoder,
                    self.preset,
                    point.quality,
                    min(100.0, point.score / ceiling),
                    bits_per_pixel=point.kbps * 1000 / self._pixel_rate(size),
                    motion2=point.motion2,
                )
            elif point.motion2 is not None:
                belief.observe(self.encoder, self.preset, 0, motion2=point.motion2)
        return belief

    def _pixel_rate(self, size: Size) -> float:
        """Pixels of an encode in a second."""
        return self._frame_rates[size] * size[0] * size[1]
