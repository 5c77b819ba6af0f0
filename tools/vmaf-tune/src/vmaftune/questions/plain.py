"""A search that knows nothing of the content beforehand: for targets on metrics that the prior does
not know. It has the calls of `vmaf_train.search.Search`.

It takes coarser values to be no better, holds a bracket of a value that meets the target and one
that does not, and measures between them: where a straight line through both ends meets the target,
or in the middle where that did not halve the bracket. It ends when the bracket is closed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from vmaf_train.search import PROVEN, TOLERANCE, UNREACHABLE, Answer, Ending, parse_stop

from vmaftune.metrics import Goal


class PlainSearch:
    """The search for one content, encoder and preset among the quality values `values`, finest
    first. `stop` is "proven", "confident", which means the same here, or "tolerance=X" in the units
    of the goal's metric.
    """

    def __init__(
        self, *, name: str, goal: Goal, values: Sequence[float], stop: str = PROVEN
    ) -> None:
        self._name, self._goal = name, goal
        _, self._tolerance = parse_stop(stop)
        self._grid = list(values)
        self._scores: dict[float, float] = {}
        self._asked: set[float] = set()
        self._num_encodes = 0
        self._width = math.inf

    def ask(self) -> float | None:
        """The quality value to measure next; None when the search is done."""
        if self._stopped() is not None:
            return None
        quality = self._grid[self._next()]
        self._asked.add(quality)
        return int(quality) if quality == int(quality) else quality

    def tell(self, quality: float, score: float) -> None:
        """Take in a measured encode, whether it was asked for or stored; `score` is the goal's
        statistic, infinite where there is no error.
        """
        quality = float(quality)
        if not self._grid[0] <= quality <= self._grid[-1]:
            return
        if quality not in self._grid:
            self._grid = sorted([*self._grid, quality])
        self._scores[quality] = score
        if quality in self._asked:
            self._asked.discard(quality)
            self._num_encodes += 1

    @property
    def answer(self) -> Answer:
        """What is known now; final once `ask` gives None."""
        stop = self._stopped()
        met, missed = self._bracket()
        best = self._grid[met] if met >= 0 else self._nearest()
        kind: Ending = "searching"
        if stop is not None:
            kind = "met" if met >= 0 else "unreachable"
        return Answer(
            kind=kind,
            quality=best,
            score=None if best is None else self._scores[best],
            bracket=(
                self._grid[met] if met >= 0 else None,
                self._grid[missed] if missed < len(self._grid) else None,
            ),
            stop=stop,
            confidence=1.0 if met >= 0 and missed == met + 1 < len(self._grid) else None,
            curve=None,
            num_encodes=self._num_encodes,
            sentences=self._sentences(stop, best),
        )

    def _bracket(self) -> tuple[int, int]:
        """Positions in the grid: the largest value that meets the goal (-1: none), and the smallest
        measured one beyond it (the grid's length: none).
        """
        measured = [(i, self._scores[q]) for i, q in enumerate(self._grid) if q in self._scores]
        met = max((i for i, score in measured if self._goal.holds(score)), default=-1)
        return met, min((i for i, _ in measured if i > met), default=len(self._grid))

    def _stopped(self) -> str | None:
        met, missed = self._bracket()
        if missed - met == 1:
            return PROVEN if met >= 0 else UNREACHABLE
        if met < 0 or self._tolerance is None:
            return None
        beyond = abs(self._scores[self._grid[met]] - self._goal.limit)
        return TOLERANCE if beyond < self._tolerance else None

    def _next(self) -> int:
        met, missed = self._bracket()
        middle = (met + missed) // 2
        before, self._width = self._width, missed - met
        if met < 0 or missed == len(self._grid) or self._width > before / 2:
            return max(met + 1, middle)
        low, high = self._scores[self._grid[met]], self._scores[self._grid[missed]]
        if not math.isfinite(low) or not math.isfinite(high) or low == high:
            return middle
        share = (low - self._goal.limit) / (low - high)
        return min(max(met + 1, met + math.floor(share * (missed - met))), missed - 1)

    def _nearest(self) -> float | None:
        """Of values that all miss the goal, the one that misses it least."""
        sign = 1 if self._goal.is_least else -1
        return max(self._scores, key=lambda q: (sign * self._scores[q], q), default=None)

    def _sentences(self, stop: str | None, best: float | None) -> tuple[str, ...]:
        if stop is None or best is None:
            return ()
        goal = self._goal
        what = f"{self._name} at {best:g}"
        with_score = f"with {goal.shown(self._scores[best])}"
        how = f"the prior knows VMAF only: {goal.what} was searched for without it"
        if stop == UNREACHABLE:
            nothing = f"no value from {self._grid[0]:g} to {self._grid[-1]:g} gives {goal}"
            return (f"{nothing}: the best is {what} {with_score}", how)
        meets = f"{what} meets {goal} {with_score}"
        if best == self._grid[-1]:
            return (f"{meets}, and it is the coarsest value allowed", how)
        why = "the next value was measured and does not"
        if stop == TOLERANCE:
            why = f"that is less than {self._tolerance or 0:g} from it"
        return (f"{meets}, and {why}", how)
