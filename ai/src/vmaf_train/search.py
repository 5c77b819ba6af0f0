"""Which quality value meets a target, with the fewest encodes: a policy without files or engine.

    Search(prior, ...)    ask --> quality value --(encode, score)--> tell    until ask gives None

The rule: measure the largest quality value that meets the target with a probability of at least
0.55 (0.5 once something is known, where the answer shall be proven); stop when the bracket is
closed, or when the next value meets the target with a probability of at most 5%. It holds a bracket
throughout, `met` (measured, meets the target) below `missed` (measured, does not), so an answer was
always measured, and curves that are not monotone, flat or unlike all content that the prior knows
cost encodes and never the answer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vmaf_train.prior import Belief, Foretold, Measured, Prior

CONFIDENT, PROVEN, TOLERANCE, UNREACHABLE = "confident", "proven", "tolerance", "unreachable"
LIKELY, EVEN = 0.55, 0.5
"""Measure the largest quality value that is at least so likely to meet the target; the second where
the answer shall be proven, from the second encode on. Nothing is known of the film before the first
one, and a film that is unlike the corpus is further off on the coarse side: on groups held out 3.23
encodes, and 3.26 with 0.5 from the beginning or 3.28 with 0.55 to the end."""
DOUBT = 0.05
"""`confident` stops when the next quality value meets the target with at most this probability."""
TRUSTED = 5
"""After so many encodes in a bracket that is still wide the middle is measured: the prior is no
help with such content."""
MOST = 12
"""A search takes no more encodes than this, whatever the curve is (for up to 2^11 values)."""

Ending = Literal["met", "unreachable", "searching"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a search found. `kind` is met, unreachable (nothing in the range meets the target) or
    searching (not done).

    `quality` and `score`: the largest measured quality value that meets the target, or where none
    does the best that was measured; None before the first. `bracket` = (met, missed), None for an
    end that was not found (outside the range). `stop` says why the search ended: proven, confident,
    tolerance or unreachable. `confidence` is the probability that the next value misses the target.
    `curve` is what is believed of every value of the range, with its 80% interval; None for a
    search without a prior. `num_encodes` counts what `ask` asked for. `sentences` say it all in
    words, borrowed curves included.
    """

    kind: Ending
    quality: float | None
    score: float | None
    bracket: tuple[float | None, float | None]
    stop: str | None
    confidence: float | None
    curve: Foretold | None
    num_encodes: int
    sentences: tuple[str, ...]


class Search:
    """The search for one content, encoder and preset.

    `low`..`high` are the quality values it may use, `step` apart (1; 0.25 where the encoder takes
    fractions); larger is coarser. `target` in VMAF points of `statistic`. `stop` is "confident",
    "proven" or "tolerance=X" (also: a value within X points above the target is good enough).
    Raises ValueError for a range, step, target or stop that makes no sense.
    """

    def __init__(
        self,
        prior: Prior,
        *,
        encoder: str,
        preset: str,
        target: float,
        low: float,
        high: float,
        statistic: str = "mean",
        stop: str = CONFIDENT,
        step: float = 1,
    ) -> None:
        _check(target, low, high, step)
        self.encoder, self.preset, self.target = encoder, preset, float(target)
        self.stop, self.tolerance = parse_stop(stop)
        self.grid = _grid(low, high, step)
        self.scores: dict[float, float] = {}
        self.num_encodes = 0
        self._belief = Belief(prior, statistic)
        self._z_target = prior.to_z(self.target)
        self._asked: set[float] = set()
        self._foretold: Foretold | None = None

    def ask(self) -> float | None:
        """The quality value to measure next; None when the search is done."""
        if self._stopped() is not None:
            return None
        quality = self.grid[self._next()]
        self._asked.add(quality)
        return _number(quality)

    def tell(
        self,
        quality: float,
        score: float,
        *,
        bits_per_pixel: float | None = None,
        motion2: float | None = None,
    ) -> None:
        """Take in a measured encode of the content with this encoder and preset, whether it was
        asked for or stored; a stored one costs nothing. Raises ValueError for a score that is no
        VMAF score.
        """
        if not math.isfinite(score) or not 0 <= score <= 100 + 1e-6:
            raise ValueError(f"a score is 0..100 VMAF points, not {score}")
        quality = float(quality)
        self._belief.observe(
            self.encoder,
            self.preset,
            quality,
            score,
            bits_per_pixel=bits_per_pixel,
            motion2=motion2,
        )
        self._foretold = None
        if not self.grid[0] <= quality <= self.grid[-1]:
            return
        if quality not in self.grid:  # a stored value between two of the grid's may be the answer
            self.grid = sorted([*self.grid, quality])
        self.scores[quality] = score
        if quality in self._asked:
            self._asked.discard(quality)
            self.num_encodes += 1

    def know(self, cell: Measured) -> None:
        """Take in a measured cell of the same content, of any encoder and preset."""
        score = cell.scores.get(self._belief.statistic)
        if (cell.encoder, cell.preset) == (self.encoder, self.preset) and score is not None:
            self.tell(cell.quality, score, bits_per_pixel=cell.bits_per_pixel, motion2=cell.motion2)
            return
        self._belief.observe_cell(cell)
        self._foretold = None

    @property
    def answer(self) -> Answer:
        """What is known now; final once `ask` gives None."""
        stop = self._stopped()
        met, missed = self._bracket()
        best = self.grid[met] if met >= 0 else max(self.scores, key=self._merit, default=None)
        kind: Ending = "searching"
        if stop is not None:
            kind = "met" if met >= 0 else "unreachable"
        found = Answer(
            kind=kind,
            quality=None if best is None else _number(best),
            score=None if best is None else self.scores[best],
            bracket=(
                _number(self.grid[met]) if met >= 0 else None,
                _number(self.grid[missed]) if missed < len(self.grid) else None,
            ),
            stop=stop,
            confidence=self._confidence(),
            curve=self._curve(),
            num_encodes=self.num_encodes,
            sentences=(),
        )
        notes = self._belief.notes_of(self.encoder, self.preset)
        return replace(found, sentences=(*self._sentence(found), *notes))

    def _confidence(self) -> float | None:
        """Probability that the value after the answer misses the target; None without one."""
        met, missed = self._bracket()
        if met < 0 or met + 1 == len(self.grid):
            return None
        return 1.0 if missed == met + 1 else 1 - float(self._chances()[met + 1])

    def _bracket(self) -> tuple[int, int]:
        """Positions in the grid: the largest value that meets the target (-1: none), and the
        smallest measured one beyond it, which misses (the grid's length: none).
        """
        measured = [(i, self.scores[q]) for i, q in enumerate(self.grid) if q in self.scores]
        met = max((i for i, score in measured if score >= self.target), default=-1)
        return met, min((i for i, _ in measured if i > met), default=len(self.grid))

    def _stopped(self) -> str | None:
        met, missed = self._bracket()
        if missed - met == 1:
            return PROVEN if met >= 0 else UNREACHABLE
        if met < 0 or self.stop == PROVEN:
            return None
        if self._chances()[met + 1] <= DOUBT:
            return CONFIDENT
        close = self.tolerance is not None and self.scores[self.grid[met]] < (
            self.target + self.tolerance
        )
        return TOLERANCE if close else None

    def _next(self) -> int:
        met, missed = self._bracket()
        left = MOST - self.num_encodes
        must_halve = math.ceil(math.log2(missed - met)) >= left
        if missed - met > 3 and (self.num_encodes >= TRUSTED or must_halve):
            return (met + missed) // 2
        wanted = EVEN if self.stop == PROVEN and self.scores else LIKELY
        chances = self._chances()
        likely = [i for i in range(met + 1, missed) if chances[i] >= wanted]
        return likely[-1] if likely else met + 1

    def _chances(self) -> NDArray[np.float64]:
        """Probability that each value of the grid meets the target, held from rising beyond what
        meets it.
        """
        met, _ = self._bracket()
        chances = self._curve().chance(self._z_target)
        chances[met + 1 :] = np.minimum.accumulate(chances[met + 1 :])
        return chances

    def _curve(self) -> Foretold:
        if self._foretold is None:
            self._foretold = self._belief.predict(self.encoder, self.preset, self.grid)
        return self._foretold

    def _merit(self, quality: float) -> tuple[float, float]:
        return self.scores[quality], quality

    def _sentence(self, found: Answer) -> tuple[str, ...]:
        if found.quality is None or found.score is None or found.stop is None:
            return ()
        what = f"{self.encoder} {self.preset} at {found.quality:g}"
        if found.kind == UNREACHABLE:
            nothing = f"no value from {self.grid[0]:g} to {self.grid[-1]:g} gives {self.target:g}"
            ceiling = ", the ceiling of this film" if found.quality == self.grid[0] else ""
            return (f"{nothing}: the best is {what} with {found.score:.2f}{ceiling}",)
        meets = f"{what} meets {self.target:g} with {found.score:.2f}"
        if found.quality == self.grid[-1]:
            return (f"{meets}, and it is the coarsest value allowed",)
        said = {
            PROVEN: "the next value was measured and does not",
            CONFIDENT: f"the next one misses it with a probability of {_percent(found.confidence)}",
            TOLERANCE: f"that is less than {self.tolerance or 0:g} points above it",
        }[found.stop]
        return (f"{meets}, and {said}",)


def _percent(confidence: float | None) -> str:
    """A probability that is short of certain, as it is."""
    known = confidence or 0.0
    return "more than 99%" if known > 0.99 else f"{known:.0%}"


def _check(target: float, low: float, high: float, step: float) -> None:
    if not 0 < target <= 100:
        raise ValueError(f"a target is more than 0 and at most 100 VMAF points, not {target:g}")
    if not (math.isfinite(low) and math.isfinite(high) and low <= high):
        raise ValueError(f"the quality values {low:g} to {high:g} are not a range")
    if not step > 0:
        raise ValueError(f"the step between quality values must be more than 0, not {step:g}")


def _grid(low: float, high: float, step: float) -> list[float]:
    count = math.floor((high - low) / step + 1e-9) + 1
    return [round(low + step * i, 9) for i in range(count)]


def _number(quality: float) -> float:
    return int(quality) if quality == int(quality) else quality


def parse_stop(stop: str) -> tuple[str, float | None]:
    """The name of a stop, and its tolerance in VMAF points where it has one. Raises ValueError."""
    if stop in (CONFIDENT, PROVEN):
        return stop, None
    name, _, number = stop.partition("=")
    try:
        tolerance = float(number)
    except ValueError:
        tolerance = -1.0
    if name != TOLERANCE or not 0 < tolerance < 100:
        raise ValueError(f"no stop {stop!r}; use confident, proven or tolerance=0.5")
    return TOLERANCE, tolerance
