"""Fits `quality_prior`: mean curves and the numbers of the process, from run folders.

    corpus.contents.read --> Content per source --fit--> Prior

The numbers of one statistic are those under which the corpus is most likely, its contents being
independent of each other (plus a weak normal prior on them): L-BFGS in double precision on the CPU,
with fixed starts, so the same rows give the same file. Contents that were measured at the same
points share one Cholesky factor, which makes a fit a matter of seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np

from vmaf_train.contract import preset_ordinal
from vmaf_train.corpus.contents import Content
from vmaf_train.errors import DatasetError
from vmaf_train.prior import STATISTICS, MeanCurve, Measured, Prior, quality_max
from vmaf_train.prior.process import (
    KNOT_SHARE,
    MOTION,
    MOTION_NUGGET,
    RATE,
    SCORE,
    Floats,
    Hyper,
    Points,
    covariance,
    interpolate,
    place,
)

if TYPE_CHECKING:
    from torch import Tensor

SOFTNESS = 0.5
"""b of z = ln((v + 2) / (100 + b - v)): groups held out need 2.80 encodes at 0.5 and 1, 2.85 at 3
and 2.92 at 6 (confident); 0.5 is the better of the first two on the dense curves."""
JITTER = {"mean": 0.008, "harmonic": 0.009, "p5": 0.014, "min": 0.018}
"""Standard deviation in z, at b = 1, between encodes at neighbouring quality values, measured on
dense encodes of three sources of the software corpus."""
RATE_JITTER = 0.005
STEPS = 60
PRIOR_SD = 1.5
MOST_KNOTS = 10


def fit(
    known: Sequence[Content],
    *,
    statistics: Sequence[str] = tuple(STATISTICS),
    teacher: str | None = None,
    facts: dict[str, object] | None = None,
    steps: int = STEPS,
    motion: bool = True,
) -> Prior:
    """The prior of `known` contents. `motion` False leaves ln(1 + motion2) out (a comparison).

    Raises DatasetError for fewer than two contents.
    """
    if len(known) < 2:
        raise DatasetError("a prior needs at least two contents: nothing varies in one")
    still = [math.log1p(c.motion2) for c in known if c.motion2 is not None] or [0.0]
    mean, sd = float(np.mean(still)), float(np.std(still)) or 1.0
    layout = _Layout(known)
    start = [_start(layout, name) for name in statistics]
    rate = start[0][1]
    curves = layout.curves(dict(zip(statistics, (z for z, _ in start), strict=True)), rate)
    hyper = {}
    for name in statistics:
        table = layout.table(curves, name, mean, sd, motion=motion)
        hyper[name] = _maximise(table, name, curves, steps)
        curves = _mean_curves(table, hyper[name], layout, curves, name)
    return Prior(
        softness=SOFTNESS,
        teacher=teacher,
        num_contents=len(known),
        motion_mean=mean,
        motion_sd=sd,
        curves=curves,
        hyper=hyper,
        facts=facts or {},
    )


def to_z(score: Floats) -> Floats:
    """VMAF points on the scale where the process is normal."""
    result: Floats = np.log((score + 2) / (100 + SOFTNESS - score))
    return result


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """What the likelihood is made of. For each set of points at which contents were measured:
    `points`, `weights` (N, K) of the mean curves' knots (scores' first, then rates', K = 2 knots)
    and `values` (N, contents); `offset` (N, 1) is the mean now.
    """

    patterns: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """Contents that were measured at the same points."""

    points: Points
    weights: Floats
    values: Floats
    offset: Floats


class _Layout:
    """Where the cells of the contents lie: settings in order, their knots, their columns."""

    def __init__(self, known: Sequence[Content]) -> None:
        self.known = known
        cells = [cell for content in known for cell in content.cells]
        self.settings = sorted(
            {(c.encoder, c.preset) for c in cells}, key=lambda s: (s[0], preset_ordinal(*s), s[1])
        )
        self.knots = {
            s: _knots([c.quality for c in cells if _setting(c) == s]) for s in self.settings
        }
        self.first = {}
        self.num_knots = 0
        for setting in self.settings:
            self.knots[setting] = _knots([c.quality for c in cells if _setting(c) == setting])
            self.first[setting] = self.num_knots
            self.num_knots += len(self.knots[setting])

    def weights(self, cell: Measured) -> Floats:
        """Shares (knots,) of the knots in a cell's place: straight lines between them."""
        setting = _setting(cell)
        knots = self.knots[setting]
        row = np.zeros(self.num_knots)
        first = self.first[setting]
        if len(knots) == 1:
            row[first] = 1.0
            return row
        i = int(np.clip(np.searchsorted(knots, cell.quality, side="right") - 1, 0, len(knots) - 2))
        share = (cell.quality - knots[i]) / (knots[i + 1] - knots[i])
        row[first + i], row[first + i + 1] = 1 - share, share
        return row

    def curves(self, z: dict[str, Floats], rate: Floats) -> tuple[MeanCurve, ...]:
        """Mean curves from one number for every knot."""
        made = []
        for setting in self.settings:
            part = slice(self.first[setting], self.first[setting] + len(self.knots[setting]))
            made.append(
                MeanCurve(
                    encoder=setting[0],
                    preset=setting[1],
                    quality=self.knots[setting],
                    ln_bpp=rate[part],
                    z={name: values[part] for name, values in z.items()},
                )
            )
        return tuple(made)

    def table(
        self, curves: Sequence[MeanCurve], statistic: str, mean: float, sd: float, *, motion: bool
    ) -> Table:
        """The corpus as the likelihood wants it."""
        by_setting = {(c.encoder, c.preset): c for c in curves}
        patterns = []
        keyed = sorted(self.known, key=_places)
        for _, group in groupby(keyed, key=_places):
            members = list(group)
            with_motion = motion and all(c.motion2 is not None for c in members)
            patterns.append(self._pattern(members, by_setting, statistic, mean, sd, with_motion))
        return Table(patterns=tuple(patterns))

    def _pattern(
        self,
        members: list[Content],
        curves: dict[tuple[str, str], MeanCurve],
        statistic: str,
        mean: float,
        sd: float,
        motion: bool,
    ) -> Pattern:
        cells = members[0].cells
        shares = np.array([self.weights(cell) for cell in cells])
        score = np.array([[c.scores[statistic] for c in m.cells] for m in members]).T
        rate = np.array([[_ln_bpp(c) for c in m.cells] for m in members]).T
        extra = int(motion)
        weights = np.zeros((2 * len(cells) + extra, 2 * self.num_knots))
        weights[: len(cells), : self.num_knots] = shares
        weights[len(cells) : 2 * len(cells), self.num_knots :] = shares
        offset = _means(cells, curves, statistic)
        values = np.concatenate([to_z(score), rate])
        if motion:
            moving = [(math.log1p(m.motion2 or 0.0) - mean) / sd for m in members]
            values = np.concatenate([values, np.array([moving])])
            offset = np.append(offset, 0.0)
        points = self._points(cells, curves, statistic, extra)
        return Pattern(points=points, weights=weights, values=values, offset=offset[:, None])

    def _points(
        self,
        cells: Sequence[Measured],
        curves: dict[tuple[str, str], MeanCurve],
        statistic: str,
        extra: int,
    ) -> Points:
        n = len(cells)
        encoders = sorted({s[0] for s in self.settings})
        spacing = np.array([KNOT_SHARE * max(curves[_setting(c)].spacing, 1e-9) for c in cells])
        quality = np.array([c.quality for c in cells])
        tail = [-1] * extra
        return Points(
            output=np.array([SCORE] * n + [RATE] * n + [MOTION] * extra),
            encoder=np.array([encoders.index(c.encoder) for c in cells] * 2 + tail),
            preset=np.array([self.settings.index(_setting(c)) for c in cells] * 2 + tail),
            w=np.append(np.tile(place(_means(cells, curves, statistic)[:n]), 2), [0.0] * extra),
            x=np.append(np.tile(quality / spacing, 2), [0.0] * extra),
            odd_encoder=np.zeros(2 * n + extra),
            odd_preset=np.zeros(2 * n + extra),
        )


def _setting(cell: Measured) -> tuple[str, str]:
    return cell.encoder, cell.preset


def _ln_bpp(cell: Measured) -> float:
    assert cell.bits_per_pixel is not None  # no content has a cell without
    return math.log(cell.bits_per_pixel)


def _places(content: Content) -> tuple[object, ...]:
    places = tuple((c.encoder, c.preset, c.quality) for c in content.cells)
    return (content.motion2 is None, places)


def _knots(qualities: Sequence[float]) -> Floats:
    """The quality values that carry the mean curve: all of them, or a few of many."""
    distinct = np.unique(np.array(qualities, dtype=np.float64))
    if len(distinct) <= MOST_KNOTS:
        return distinct
    which = np.round(np.linspace(0, len(distinct) - 1, MOST_KNOTS)).astype(int)
    few: Floats = distinct[which]
    return few


def _means(
    cells: Sequence[Measured], curves: dict[tuple[str, str], MeanCurve], statistic: str
) -> Floats:
    """(2N,): the mean curves' z at the cells, then their ln(bits per pixel)."""
    z, rate = [], []
    for cell in cells:
        curve = curves[_setting(cell)]
        at = np.array([cell.quality])
        z.append(float(interpolate(curve.quality, curve.z[statistic], at)[0]))
        rate.append(float(interpolate(curve.quality, curve.ln_bpp, at)[0]))
    return np.array(z + rate)


def _start(layout: _Layout, statistic: str) -> tuple[Floats, Floats]:
    """First mean curves, z and ln(bits per pixel) at the knots: least squares on knots and one
    offset for each content, so that a preset that only hard clips have is not taken for bad.
    """
    cells = [(i, c) for i, content in enumerate(layout.known) for c in content.cells]
    design = np.zeros((len(cells) + 1, layout.num_knots + len(layout.known)))
    for row, (i, cell) in enumerate(cells):
        design[row, : layout.num_knots] = layout.weights(cell)
        design[row, layout.num_knots + i] = 1.0
    design[-1, layout.num_knots :] = 1.0  # the offsets add up to nothing
    z = np.append(to_z(np.array([c.scores[statistic] for _, c in cells])), 0.0)
    rate = np.append([_ln_bpp(c) for _, c in cells], 0.0)
    both = np.linalg.lstsq(design, np.stack([z, rate], axis=1), rcond=None)[0]
    return both[: layout.num_knots, 0], both[: layout.num_knots, 1]


def _mean_curves(
    table: Table, hyper: Hyper, layout: _Layout, curves: Sequence[MeanCurve], statistic: str
) -> tuple[MeanCurve, ...]:
    """The mean curves that are most likely under the process (generalised least squares): what an
    incomplete setting lacks is told by what its contents do elsewhere.
    """
    size = 2 * layout.num_knots
    normal, right = np.zeros((size, size)), np.zeros(size)
    for pattern in table.patterns:
        own = covariance(hyper, pattern.points, pattern.points, np)
        own[np.diag_indices(len(own))] += hyper.nugget[pattern.points.output] ** 2
        solved = np.linalg.solve(own, pattern.weights)
        normal += pattern.values.shape[1] * pattern.weights.T @ solved
        right += solved.T @ pattern.values.sum(axis=1)
    both = np.linalg.lstsq(normal, right, rcond=1e-12)[0]
    z = {name: np.concatenate([c.z[name] for c in curves]) for name in curves[0].z}
    z[statistic] = both[: layout.num_knots]
    rate = np.concatenate([c.ln_bpp for c in curves])
    if statistic == "mean":
        rate = both[layout.num_knots :]
    return layout.curves(z, rate)


# -- the likelihood ----------------------------------------------------------------------------

_SIZES = (5, 4, 4)  # coefficients of the levels: content with motion, encoder, preset


def _start_vector() -> Floats:
    """Where every fit begins: covariances as diagonals, bends and wiggles small."""
    parts: list[float] = []
    for size, scale in zip(_SIZES, (0.4, 0.1, 0.05), strict=True):
        diagonal = [math.log(scale)] * 4 + ([0.0] if size == 5 else [])
        parts += diagonal + [0.0] * (size * (size - 1) // 2)
    bends = [math.log(0.1)] * 2 + [math.log(0.05)] * 2 + [math.log(0.03)] * 2
    rest = [math.log(0.7)] * 2 + [math.log(0.02)] * 2 + [0.0, 0.0]
    return np.array(parts + bends + rest)


def _unpack(vector: Tensor, nugget: Tensor) -> SimpleNamespace:
    """The vector of free numbers as what `covariance` reads, in torch."""
    import torch

    at, levels = 0, []
    for size in _SIZES:
        count = size * (size - 1) // 2
        diagonal = torch.exp(vector[at : at + size])
        lower = torch.diag(diagonal)
        rows, columns = torch.tril_indices(size, size, offset=-1)
        lower = lower.index_put(
            (rows, columns), vector[at + size : at + size + count] * diagonal[rows]
        )
        levels.append(lower @ lower.T)
        at += size + count
    nothing = torch.zeros(3, 1, dtype=vector.dtype)
    bend = torch.cat([torch.exp(vector[at : at + 6]).reshape(3, 2), nothing], 1)
    one, zero = torch.ones(1, dtype=vector.dtype), torch.zeros(1, dtype=vector.dtype)
    return SimpleNamespace(
        content=levels[0],
        encoder=levels[1],
        preset=levels[2],
        bend=bend,
        length=torch.cat([torch.exp(vector[at + 6 : at + 8]), one]),
        wiggle=torch.cat([torch.exp(vector[at + 8 : at + 10]), zero]),
        spread=vector[at + 10 : at + 12],
        nugget=nugget,
        strange_encoder=torch.zeros(4, dtype=vector.dtype),
        strange_preset=torch.zeros(4, dtype=vector.dtype),
    )


def _maximise(table: Table, statistic: str, curves: Sequence[MeanCurve], steps: int) -> Hyper:
    import torch

    jitter = JITTER[statistic] * (3 / (2 + SOFTNESS)) ** 0.25
    nugget = np.array([jitter, RATE_JITTER, MOTION_NUGGET])
    start = torch.tensor(_start_vector())
    vector = start.clone().requires_grad_()
    patterns = [_tensors(pattern) for pattern in table.patterns]
    fixed = torch.tensor(nugget)

    def loss() -> Tensor:
        hyper = _unpack(vector, fixed)
        total = ((vector - start) ** 2).sum() / (2 * PRIOR_SD**2)
        for points, deviation in patterns:
            own = covariance(hyper, points, points, torch)
            own = own + torch.diag(fixed[points.output] ** 2)
            factor = torch.linalg.cholesky(own)
            white = torch.linalg.solve_triangular(factor, deviation, upper=False)
            logs = torch.log(torch.diagonal(factor)).sum()
            total = total + deviation.shape[1] * logs + 0.5 * (white**2).sum()
        return total

    optimiser = torch.optim.LBFGS(
        [vector], max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss()
        value.backward()
        return value

    with _one_thread():
        optimiser.step(closure)
    found = _unpack(vector.detach(), fixed)
    strange = _strangeness(curves, statistic)
    numbers = {name: getattr(found, name).numpy() for name in Hyper.__slots__} | strange
    return Hyper(**numbers)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices of this size are slower on several threads, and sums would differ."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _tensors(pattern: Pattern) -> tuple[SimpleNamespace, Tensor]:
    import torch

    columns = {name: torch.as_tensor(getattr(pattern.points, name)) for name in Points.__slots__}
    return SimpleNamespace(**columns), torch.tensor(pattern.values - pattern.offset)


def _strangeness(curves: Sequence[MeanCurve], statistic: str) -> dict[str, Floats]:
    """Variances of the lines' coefficients between mean curves: of two encoders, and of two presets
    of one encoder; what a borrowed curve may be off by.
    """
    found: dict[bool, list[Floats]] = {False: [], True: []}
    for a in curves:
        for b in curves:
            if a is not b:
                found[a.encoder == b.encoder].append(_difference(a, b, statistic))
    floor = np.array([0.05, 0.02, 0.05, 0.02]) ** 2
    shifts = {
        same: np.mean(np.square(lines), axis=0) if lines else 4 * floor
        for same, lines in found.items()
    }
    return {
        "strange_encoder": np.maximum(shifts[False], floor),
        "strange_preset": np.maximum(shifts[True], floor),
    }


def _difference(a: MeanCurve, b: MeanCurve, statistic: str) -> Floats:
    """Offset and slope along w by which curve `a` differs from curve `b`: of z, then of ln(bpp)."""
    along = a.quality * quality_max(b.encoder) / quality_max(a.encoder)
    inside = (along >= b.quality[0]) & (along <= b.quality[-1])
    if inside.sum() < 2:
        return np.zeros(4)
    theirs = interpolate(b.quality, b.z[statistic], along[inside])
    basis = np.stack([np.ones(len(theirs)), place(theirs)], axis=1)
    z = a.z[statistic][inside] - theirs
    rate = a.ln_bpp[inside] - interpolate(b.quality, b.ln_bpp, along[inside])
    lines = np.linalg.lstsq(basis, np.stack([z, rate], axis=1), rcond=None)[0]
    return np.array([lines[0, 0], lines[1, 0], lines[0, 1], lines[1, 1]])
