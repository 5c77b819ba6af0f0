"""A bitrate ladder for one film: which sizes and quality values, each rung measured as it ships.

    film --sample--> windows    HullSearch --ask--> size, quality --cells--> study --scores--> tell
    hull --targets--> rungs: a capped encode each, measured; moved until the rules hold

Encodes of every size are scored at the display size. The rungs go down from the top: each is the
cheapest size that is believed to reach its score, encoded with its bound on the bitrate and scored.
What is printed is what was measured.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vmaf_train.corpus.rows import CellRow
from vmaf_train.prior import Prior

from vmaftune.cell import Cell, Setting, Window
from vmaftune.engine.events import Event, NoticeEvent, PointEvent
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.metrics import METRICS
from vmaftune.questions.hull import MARGIN, HullSearch, Size, SizeCurve, SizePoint
from vmaftune.questions.ladder_values import APART, Against, LadderRequest, Rung
from vmaftune.questions.sample import pooled, pooled_metric, standard_error

KNEE = 1.25
"""The top rung is where one more VMAF point would cost more than this factor in bits."""
CAP = 1.5
"""The bound on the bitrate of a rung, as a factor on what the encode is believed to take."""
BUFFER_S = 2.0
"""Seconds of the bound that the decoder's buffer holds."""
TRIES = 6
"""Encodes that are made at most for one rung."""
FIXED_TRIES, FIXED_OFF = 2, 0.1
"""A rung of a fixed ladder is encoded again where its bitrate is off by more than this share."""
CLOSE = 0.5
"""A rung may be this far below the ladder's lowest score, VMAF points."""


def cell_of_ladder(request: LadderRequest, setting: Setting, window: Window) -> Cell:
    """The cell of a setting on one window."""
    return Cell(
        window=window,
        setting=setting,
        threads=request.threads,
        teacher=request.teacher,
        metrics=request.metrics,
    )


class LadderMaker:
    """One question about one film. `run` yields events; then `rungs` holds the ladder, the best
    first, `points` every encode of the hull, and `against` the fixed ladder.
    """

    def __init__(self, request: LadderRequest, study: Study, prior: Prior) -> None:
        self.request, self._study = request, study
        row = request.encoder
        self.search = HullSearch(
            prior,
            encoder=row.name,
            preset=request.preset,
            display=request.display,
            sizes=request.sizes,
            frame_rates={
                size: float(request.sample_of(size).film.frame_rate) for size in request.sizes
            },
            qualities=range(math.ceil(row.quality_min), math.floor(row.quality_max) + 1),
            low=request.bottom,
            high=request.top,
            min_kbps=request.min_kbps,
            max_kbps=request.max_kbps,
            statistic=request.statistic,
        )
        self.rungs: tuple[Rung, ...] = ()
        self.against: tuple[Against, ...] = ()
        self.points: tuple[SizePoint, ...] = ()
        self.sentences: list[str] = []
        self.num_rung_encodes = self.num_fixed_encodes = 0
        self._measured: Rung | None = None
        if not row.cap_args:
            self.sentences.append(
                f"{row.name} takes no bound on its bitrate beside constant quality: rungs are not"
                " capped, and BANDWIDTH is their mean"
            )

    def run(self) -> Iterator[Event]:
        """Measure the hull, then the rungs. Yields the study's events, and a point each."""
        for notice in self._study.notices:
            yield NoticeEvent(message=notice)
        while (wanted := self.search.ask()) is not None:
            size, quality = wanted
            yield from self._measure(self._setting(size, quality), is_rung=False)
        self.points = tuple(self.search.points)
        yield from self._place_rungs()
        yield from self._compare()
        self._study.finish()

    def _place_rungs(self) -> Iterator[Event]:
        target = self._top()
        request = self.request
        step = request.step
        if request.num_rungs is not None and request.num_rungs > 1:
            step = (target - request.bottom) / (request.num_rungs - 1)
        rungs: list[Rung] = []
        while target >= self._least:
            yield from self._rung(target, rungs[-1] if rungs else None)
            found = self._measured
            if found is None or found.kbps < request.min_kbps:
                break
            rungs.append(found)
            if len(rungs) == request.num_rungs:
                break
            target = found.score - step
        self.rungs = tuple(rungs)
        if not rungs:
            self.sentences.append("no rung meets the limits; widen --bottom, --min-kbps or --sizes")

    def _compare(self) -> Iterator[Event]:
        """Measure the fixed ladder's rungs, each at the quality value that is believed to take its
        bitrate; a second time where the first was far off.
        """
        sizes = self.request.sizes
        curves = [self.search.curve(size) for size in sizes]
        measured: list[Rung] = []
        before = self.num_rung_encodes
        for size, kbps in self.request.template:
            found: Rung | None = None
            for _ in range(FIXED_TRIES):
                quality = self.search.curve(size).quality_of(math.log(kbps))
                setting = self._setting(size, quality)
                yield from self._measure(setting, is_rung=True)
                found = self._measured
                assert found is not None
                self.search.tell(_point(found))
                if abs(math.log(found.kbps / kbps)) <= FIXED_OFF:
                    break
            assert found is not None
            measured.append(found)
        self.num_fixed_encodes = self.num_rung_encodes - before
        self.num_rung_encodes = before
        self.against = tuple(self._held(rung, curves) for rung in measured)

    def _held(self, rung: Rung, curves: Sequence[SizeCurve]) -> Against:
        import numpy as np

        low, high = self.request.bottom - MARGIN, self.request.top + MARGIN
        cost = math.inf
        if low <= rung.score <= high:  # the hull is known there
            cost = min(curve.ln_kbps_for(rung.score) for curve in curves)
        at = np.array([math.log(rung.kbps)])
        return Against(
            fixed=rung,
            kbps=math.exp(cost) if math.isfinite(cost) else None,
            score=max(float(curve.score_at(at)[0]) for curve in curves),
        )

    def _top(self) -> float:
        """The score of the top rung: what is asked for and reached, below the knee."""
        request = self.request
        wanted = request.top
        while wanted > request.bottom:
            dear, less = self._cheapest(wanted, 0)[0], self._cheapest(wanted - 1, 0)[0]
            fits = math.isfinite(dear) and dear <= math.log(request.max_kbps)
            if fits and dear - less <= math.log(KNEE):
                break
            wanted -= 0.5
        if wanted < request.top:
            self.sentences.append(
                f"the top rung is at {wanted:g} and not {request.top:g}: above it no size reaches"
                f" the score within the limits, or a point costs over {KNEE - 1:.0%} more bits"
            )
        return wanted

    def _cheapest(self, score: float, first: int) -> tuple[float, int]:
        """ln of kbit/s and the place of the size that is cheapest at a score, among those from
        `first` on.
        """
        sizes = self.request.sizes
        costs = [(self.search.curve(sizes[i]).ln_kbps_for(score), i) for i in range(len(sizes))]
        return min(costs[first:])

    def _rung(self, target: float, above: Rung | None) -> Iterator[Event]:
        """Measure a rung at about `target`; moved down until it is far enough from the one above.
        Leaves None in `_measured` where there is none.
        """
        self._measured = None
        first = self.request.sizes.index(above.size) if above else 0
        limit = above.kbps / APART if above else self.request.max_kbps
        for _ in range(TRIES):
            chosen = self._chosen(target, first)
            while chosen and chosen[0] > math.log(limit) and target > self._least:
                target -= 0.25
                chosen = self._chosen(target, first)
            if chosen is None or chosen[0] > math.log(limit):
                return
            ln_kbps, size, quality = chosen
            setting = self._setting(size, quality, math.exp(ln_kbps))
            yield from self._measure(setting, is_rung=True)
            found = self._measured
            assert found is not None
            if found.kbps <= limit:
                return
            target -= 1.0
            self._measured = None

    @property
    def _least(self) -> float:
        """The score below which there is no rung."""
        return self.request.bottom - CLOSE

    def _chosen(self, target: float, first: int) -> tuple[float, Size, float] | None:
        """ln of kbit/s, size and quality value of the cheapest encode that is believed to reach a
        score; None where no size does.
        """
        cost, place = self._cheapest(target, first)
        if not math.isfinite(cost):
            return None
        curve = self.search.curve(self.request.sizes[place])
        quality = curve.quality_for(target)
        return curve.ln_kbps_of(quality), curve.size, quality

    def _setting(self, size: Size, quality: float, kbps: float | None = None) -> Setting:
        """A setting, with its bound where `kbps` is given and the encoder takes one."""
        request = self.request
        maxrate = None
        if kbps is not None and request.encoder.cap_args:
            maxrate = max(1, round(CAP * kbps))
        return Setting(
            encoder=request.encoder,
            preset=request.preset,
            quality=quality,
            size=None if size == request.display else size,
            options=request.encoder.with_gop(request.options, request.gop_of(size)),
            maxrate_kbps=maxrate,
            bufsize_kbps=None if maxrate is None else round(BUFFER_S * maxrate),
        )

    def _measure(self, setting: Setting, *, is_rung: bool) -> Iterator[Event]:
        request = self.request
        sample = request.sample_of(setting.size or request.display)
        windows = sample.windows[: request.num_windows]
        cells = [cell_of_ladder(request, setting, window) for window in windows]
        self._study.submit(cells)
        yield from self._study.events()
        found = self._pool(setting, cells)
        if is_rung:
            self._measured = found
            self.num_rung_encodes += 1
        else:
            self.search.tell(
                SizePoint(
                    size=found.size,
                    quality=setting.quality,
                    score=found.score,
                    kbps=found.kbps,
                    motion2=self._motion(cells),
                )
            )
        yield PointEvent(
            encoder=request.encoder.name,
            preset=request.preset,
            quality=setting.quality,
            width=found.size[0],
            height=found.size[1],
            maxrate_kbps=setting.maxrate_kbps,
            bufsize_kbps=setting.bufsize_kbps,
            statistic=request.statistic,
            score=round(found.score, 4),
            standard_error=round(found.error, 4),
            kbps=round(found.kbps, 3),
            num_windows=len(cells),
            is_rung=is_rung,
        )

    def _pool(self, setting: Setting, cells: Sequence[Cell]) -> Rung:
        request = self.request
        scores = [self._study.scores(cell) for cell in cells if self._row(cell).is_ok]
        sample = request.sample_of(setting.size or request.display)
        rate = float(sample.film.frame_rate)
        num_frames = sum(len(of_cell) for of_cell in scores)
        share = num_frames / max(1, sample.num_frames)
        num_bytes = sum(self._row(cell).size_bytes or 0 for cell in cells)
        values = [self._study.values(cell) for cell in cells]
        return Rung(
            setting=setting,
            size=setting.size or request.display,
            score=pooled(request.statistic, scores, rate),
            error=standard_error(request.statistic, scores, rate, share=share),
            kbps=num_bytes * 8 / 1000 / (num_frames / rate),
            frame_rate=rate,
            metrics={
                name: pooled_metric(METRICS[name], "mean", values, rate) for name in request.metrics
            },
        )

    def _row(self, cell: Cell) -> CellRow:
        """The row of a measured cell. Raises ToolError when it has no score."""
        row = self._study.result(cell)
        if row is None or not row.is_ok:
            why = row.error.message if row and row.error else "it has no row"
            raise ToolError(
                f"{cell.id} could not be measured ({why}); the folder {self._study.folder} keeps"
                " the rest, and the same command goes on from there with --retry-failed"
            )
        return row

    def _motion(self, cells: Sequence[Cell]) -> float | None:
        found = [(self._row(cell).per_frame_features or {}).get("motion2") for cell in cells]
        known = [value for value in found if value is not None]
        return sum(known) / len(known) if known else None


def _point(rung: Rung) -> SizePoint:
    return SizePoint(size=rung.size, quality=rung.setting.quality, score=rung.score, kbps=rung.kbps)
