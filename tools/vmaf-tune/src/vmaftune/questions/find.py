"""Which quality value meets the target on this film, with the fewest encodes.

    film --sample--> windows      Search --ask--> quality value --cells--> study --scores--> tell
                                    '---------------------------<----------------------------'

Every probe is a setting on the windows of the sample, a cell each, in the film's run folder. So a
second target, statistic or encoder, or a search that was killed, costs only what is new. The first
probe also tells how different the windows are, and windows are added until the pooled score is
known well enough. Of several encoders two cheap probes say which could be the cheapest at the
target; the best two are searched and the others foretold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from vmaf_train.corpus.ids import parse_id
from vmaf_train.corpus.rows import CellRow
from vmaf_train.prior import STAND_INS, Belief, Measured, Prior
from vmaf_train.search import Answer, Search

from vmaftune.cell import Cell
from vmaftune.encoders import ENCODERS, Encoder, find
from vmaftune.engine.answers import FrameValues
from vmaftune.engine.events import Asked, Event, NoticeEvent, ProbeEvent, QuestionEvent
from vmaftune.engine.folder import now
from vmaftune.engine.study import Study
from vmaftune.errors import TargetMissed, ToolError
from vmaftune.metrics import METRICS, VMAF, Goal
from vmaftune.questions.find_request import Candidate, FindRequest, cell_of
from vmaftune.questions.plain import PlainSearch
from vmaftune.questions.sample import pooled, pooled_metric, standard_error, wanted

CHEAP = (("libx264", "veryfast"), ("libsvtav1", "10"))
"""The two probes that rank encoders: one of either generation."""
SEARCHED = 2
"""Of several encoders so many are searched; the rest is foretold."""
FIRST_WINDOWS = 8
Z80 = 1.2815515655446004
"""Standard deviations on either side that hold 80% of a normal distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A setting that was measured on `num_windows` windows. `score` in units of the target (VMAF
    points; infinite where there is no error at all), `error` its standard error; `cpu_s` are
    seconds of encoding, of one core, None where not known. `metrics` are the means of what was
    measured beside VMAF, `guards` the values of what the guards bound; None is no error at all.
    """

    candidate: Candidate
    quality: float
    score: float
    error: float
    kbps: float
    cpu_s: float | None
    motion2: float | None
    num_windows: int
    num_frames: int
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    guards: tuple[float | None, ...] = ()

    def keeps(self, goals: Sequence[Goal]) -> bool:
        """True where the values of the guards keep them all."""
        return all(goal.holds(value) for goal, value in zip(goals, self.guards, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The answer for one candidate. `probe` is the measurement behind it; None where foretold,
    and then `quality`, `score` and `kbps` are medians, with the 80% interval of `kbps`. `answer` is
    the search's, None where none was made.
    """

    candidate: Candidate
    quality: float | None
    score: float | None
    kbps: float | None
    kbps_interval: tuple[float, float] | None
    probe: Probe | None
    answer: Answer | None
    is_met: bool
    sentences: tuple[str, ...]


class Finder:
    """One question about one film. `run` yields events; then `found` holds the answers, best
    first.
    """

    def __init__(self, request: FindRequest, study: Study, prior: Prior) -> None:
        self.request, self._study, self._prior = request, study, prior
        self.found: tuple[Found, ...] = ()
        self.probes: list[Probe] = []
        self._answers: dict[str, Answer] = {}
        self._is_noted = False
        most = len(request.sample.windows)
        self._num_windows = min(most, request.num_windows or FIRST_WINDOWS)

    def run(self) -> Iterator[Event]:
        """Search. Yields the study's events, and a probe for every setting measured."""
        for notice in self._study.notices:
            yield NoticeEvent(message=notice)
        candidates, foretold = self._fast_enough(), tuple[Candidate, ...]()
        if len(candidates) > SEARCHED and self.request.metric == VMAF:
            for encoder, preset in CHEAP:
                yield from self._cheap_probe(encoder, preset)
            candidates, foretold = self._ranked(candidates)
        for candidate in candidates:
            yield from self._search(candidate)
        answers = [self._answer(candidate) for candidate in candidates]
        answers += [self._foretell(candidate) for candidate in foretold]
        self.found = tuple(sorted(answers, key=_merit))
        self._study.finish()

    def note(self, told: Sequence[Asked]) -> None:
        """Keep in the folder what was found; before the first of it, what was asked."""
        begin = [] if self._is_noted else [self._question()]
        self._is_noted = True
        self._study.note([*begin, *told])

    def _question(self) -> QuestionEvent:
        request = self.request
        return QuestionEvent(
            film=request.sample.film.path,
            target=request.target,
            statistic=request.statistic,
            stop=request.stop,
            encoders=[candidate.name for candidate in request.candidates],
            asked_at=now(),
            metric=request.metric,
            guards=[str(goal) for goal in request.guards],
        )

    def _recall(self) -> None:
        """Take in what earlier questions measured on the present windows."""
        known = {(p.candidate.name, p.quality) for p in self._current()}
        for encoder, preset, quality in _settings(self._study.ids(), self.request):
            candidate = Candidate(encoder=encoder, preset=preset, low=quality, high=quality)
            if (candidate.name, quality) in known:
                continue
            known.add((candidate.name, quality))
            cells = self._cells(candidate, quality)
            rows = [self._study.result(cell) for cell in cells]
            if all(row is not None and row.is_ok for row in rows):
                self.probes.append(self._pool(candidate, quality, cells))

    def _search(self, candidate: Candidate) -> Iterator[Event]:
        search = self._new_search(candidate)
        while (quality := search.ask()) is not None:
            before = self._num_windows
            yield from self._probe(candidate, quality)
            if self._num_windows == before:
                self._tell(search, self.probes[-1])
            else:  # what was measured on fewer windows is asked anew
                search = self._new_search(candidate)
        self._answers[candidate.name] = search.answer
        yield from self._within_guards(candidate)
        if self.request.max_kbps is not None:
            yield from self._within_rate(candidate, self.request.max_kbps)

    def _new_search(self, candidate: Candidate) -> Search | PlainSearch:
        """A search that knows all probes on the present windows; with the prior those of any
        encoder.
        """
        self._recall()
        request = self.request
        if request.metric != VMAF:
            plain = PlainSearch(
                name=candidate.name,
                goal=request.goal,
                values=candidate.values(),
                stop=request.stop,
            )
            for probe in self._mine(candidate):
                plain.tell(probe.quality, probe.score)
            return plain
        search = Search(
            self._prior,
            encoder=candidate.encoder.name,
            preset=candidate.preset,
            target=request.target,
            low=candidate.low,
            high=candidate.high,
            step=candidate.step,
            statistic=request.statistic,
            stop=request.stop,
        )
        for probe in self._current():
            if probe.candidate.name == candidate.name:
                self._tell(search, probe)
            else:
                search.know(self._measured(probe))
        return search

    def _current(self) -> list[Probe]:
        """The probes on the present windows."""
        return [p for p in self.probes if p.num_windows == self._num_windows]

    def _mine(self, candidate: Candidate) -> list[Probe]:
        return [p for p in self._current() if p.candidate.name == candidate.name]

    def _tell(self, search: Search | PlainSearch, probe: Probe) -> None:
        if isinstance(search, PlainSearch):
            search.tell(probe.quality, probe.score)
            return
        search.tell(
            probe.quality,
            probe.score,
            bits_per_pixel=self._bits_per_pixel(probe.kbps),
            motion2=probe.motion2,
        )

    def _measured(self, probe: Probe) -> Measured:
        name = self.request.statistic
        return Measured(
            encoder=probe.candidate.encoder.name,
            preset=probe.candidate.preset,
            quality=probe.quality,
            scores={STAND_INS.get(name, name): probe.score},
            bits_per_pixel=self._bits_per_pixel(probe.kbps),
            motion2=probe.motion2,
        )

    def _probe(self, candidate: Candidate, quality: float) -> Iterator[Event]:
        """Measure a setting on the windows, and on more while its score is too uncertain."""
        while True:
            cells = self._cells(candidate, quality)
            yield from self._measure(cells)
            probe = self._pool(candidate, quality, cells)
            more = self._windows_for(probe)
            if more == self._num_windows:
                break
            self._num_windows = more
        self.probes.append(probe)
        told = self._told(probe)
        self.note([told])
        yield told

    def _measure(self, cells: Sequence[Cell]) -> Iterator[Event]:
        self._study.submit(cells)
        yield from self._study.events()

    def _cells(self, candidate: Candidate, quality: float) -> list[Cell]:
        windows = self.request.sample.windows[: self._num_windows]
        return [cell_of(self.request, candidate, window, quality) for window in windows]

    def _pool(self, candidate: Candidate, quality: float, cells: Sequence[Cell]) -> Probe:
        request = self.request
        rows = [self._row(cell) for cell in cells]
        values = [self._study.values(cell) for cell in cells]
        scores = [_finite(of_cell[request.metric]) for of_cell in values]
        fps = float(request.sample.film.frame_rate)
        frames = sum(len(of_cell[VMAF]) for of_cell in values)
        share = frames / max(1, request.sample.num_frames)
        score = _value(request.goal, values, fps)
        size = sum(row.size_bytes or 0 for row in rows)
        return Probe(
            candidate=candidate,
            quality=quality,
            score=math.inf if score is None else score,
            error=standard_error(request.statistic, scores, fps, share=share),
            kbps=size * 8 / 1000 / (frames / fps),
            cpu_s=_sum([row.encode_cpu_s for row in rows]),
            motion2=_mean([(row.per_frame_features or {}).get("motion2") for row in rows]),
            num_windows=len(cells),
            num_frames=frames,
            metrics={
                name: pooled_metric(METRICS[name], "mean", values, fps) for name in request.measured
            },
            guards=tuple(_value(goal, values, fps) for goal in request.guards),
        )

    def _row(self, cell: Cell) -> CellRow:
        """The row of a measured cell. Raises ToolError when it has no score: then nobody can answer
        the question.
        """
        row = self._study.result(cell)
        if row is None or not row.is_ok:
            why = row.error.message if row and row.error else "it has no row"
            raise ToolError(
                f"{cell.id} could not be measured ({why}); the folder {self._study.folder} keeps"
                " the rest, and the same command goes on from there with --retry-failed"
            )
        return row

    def _windows_for(self, probe: Probe) -> int:
        """How many windows this probe needs for its score to be known well enough."""
        request = self.request
        if request.num_windows is not None or request.sample.is_whole:
            return self._num_windows
        need = wanted(self._num_windows, probe.error, request.within_points)
        return min(len(request.sample.windows), need)

    def _told(self, probe: Probe) -> ProbeEvent:
        mine = {p.quality: p.score for p in self._mine(probe.candidate)}
        goal = self.request.goal
        met = max((q for q, score in mine.items() if goal.holds(score)), default=None)
        missed = (q for q, score in mine.items() if not goal.holds(score))
        beyond = (q for q in missed if met is None or q > met)
        return ProbeEvent(
            encoder=probe.candidate.encoder.name,
            preset=probe.candidate.preset,
            quality=probe.quality,
            statistic=self.request.statistic,
            score=round(probe.score, 4) if math.isfinite(probe.score) else None,
            standard_error=round(probe.error, 4),
            kbps=round(probe.kbps, 3),
            num_windows=probe.num_windows,
            num_frames=probe.num_frames,
            encode_cpu_s=probe.cpu_s,
            meets=goal.holds(probe.score),
            bracket=(met, min(beyond, default=None)),
            metric=self.request.metric,
            metrics=dict(probe.metrics),
            guards=dict(zip(map(str, self.request.guards), probe.guards, strict=True)),
        )

    def _bits_per_pixel(self, kbps: float) -> float:
        film = self.request.sample.film
        return kbps * 1000 / float(film.frame_rate * film.width * film.height)

    def _kbps(self, bits_per_pixel: float) -> float:
        film = self.request.sample.film
        return bits_per_pixel * float(film.frame_rate * film.width * film.height) / 1000

    def _cheap_probe(self, encoder: str, preset: str) -> Iterator[Event]:
        """Measure a cheap encoder where the prior thinks that it meets the target."""
        row = find(encoder)
        candidate = Candidate(
            encoder=row, preset=preset, low=math.ceil(row.quality_min), high=row.quality_max
        )
        self._recall()
        if self._mine(candidate):
            return
        quality = self._new_search(candidate).ask()
        if quality is not None:
            yield from self._probe(candidate, quality)

    def _belief(self, probes: Sequence[Probe]) -> Belief:
        belief = Belief(self._prior, self.request.statistic)
        for probe in probes:
            belief.observe_cell(self._measured(probe))
        return belief

    def _fast_enough(self) -> tuple[Candidate, ...]:
        """The candidates that are not expected to be slower than allowed. Raises TargetMissed when
        none is left.
        """
        allowed = tuple(c for c in self.request.candidates if self._is_fast_enough(c))
        if not allowed:
            raise TargetMissed(
                f"no encoder is expected to take at most {self.request.max_cpu:g} CPU seconds for a"
                " second of film; raise --max-cpu, or name faster presets"
            )
        return allowed

    def _ranked(
        self, allowed: Sequence[Candidate]
    ) -> tuple[tuple[Candidate, ...], tuple[Candidate, ...]]:
        """The candidates to search, and those to foretell, by foretold bits at the target.

        The cheap probes alone decide, so that the same question asked again searches the same ones.
        """
        cheap = {f"{encoder} {preset}" for encoder, preset in CHEAP}
        belief = self._belief([p for p in self._current() if p.candidate.name in cheap])
        bits = {c.name: foretell(belief, c, self.request.target).bits_per_pixel for c in allowed}
        order = sorted(allowed, key=lambda c: bits[c.name])
        return tuple(order[:SEARCHED]), tuple(order[SEARCHED:])

    def _is_fast_enough(self, candidate: Candidate) -> bool:
        limit = self.request.max_cpu
        if limit is None:
            return True
        cell = self._cells(candidate, candidate.low)[0]
        return cell.expected_encode_s <= limit * cell.num_frames / float(cell.window.frame_rate)

    def _answer_probe(self, candidate: Candidate) -> Probe | None:
        """The probe of the quality value that the search ended with."""
        quality = self._answers[candidate.name].quality
        return next((p for p in self._mine(candidate) if p.quality == quality), None)

    def _answer(self, candidate: Candidate) -> Found:
        answer, limit = self._answers[candidate.name], self.request.max_kbps
        probe, said = self._answer_probe(candidate), answer.sentences
        is_met = answer.kind == "met"
        if is_met and probe is not None and self.request.guards:
            probe, is_met, sentence = self._guarded(candidate, probe)
            said = (*said, sentence)
        is_over = limit is not None and probe is not None and probe.kbps > limit
        if is_over and probe is not None and limit is not None:
            probe, sentence = self._cut_to(candidate, probe, limit)
            said = (said[0], sentence, *said[1:])
        is_slow = probe is not None and self._is_slow(probe)
        if is_slow:
            said = (said[0], "its encode took more CPU seconds than --max-cpu allows", *said[1:])
        return Found(
            candidate=candidate,
            quality=probe.quality if probe else None,
            score=probe.score if probe and math.isfinite(probe.score) else None,
            kbps=probe.kbps if probe else None,
            kbps_interval=None,
            probe=probe,
            answer=answer,
            is_met=is_met and not is_over and not is_slow,
            sentences=said,
        )

    def _cut_to(self, candidate: Candidate, first: Probe, limit: float) -> tuple[Probe | None, str]:
        """The finest measured value of at most `limit` kbit/s; None where not even the coarsest
        takes so little. With a sentence that says so.
        """
        said = f"that takes {first.kbps:.0f} kbit/s, and {limit:.0f} are allowed"
        fits = [p for p in self._mine(candidate) if p.kbps <= limit]
        if fits:
            best = min(fits, key=lambda p: p.quality)
            return best, f"{said}: the finest value within that is {best.quality:g}"
        least = min(self._mine(candidate), key=lambda p: p.kbps)
        return None, f"{said}: even {least.quality:g}, the coarsest, takes {least.kbps:.0f}"

    def _is_slow(self, probe: Probe) -> bool:
        """True when an encode took more CPU than allowed; what is expected is only a table's."""
        limit, film = self.request.max_cpu, self.request.sample.film
        if limit is None or probe.cpu_s is None:
            return False
        return probe.cpu_s > limit * probe.num_frames / float(film.frame_rate)

    def _within_guards(self, candidate: Candidate) -> Iterator[Event]:
        """Where the answer does not keep the guards: close in on the coarsest value that does, by
        halving, as if finer values kept them better.
        """
        goals, first = self.request.guards, self._answer_probe(candidate)
        if first is None or first.keeps(goals) or self._answers[candidate.name].kind != "met":
            return
        values = [value for value in candidate.values() if value < first.quality]
        low, high = -1, len(values)
        while high - low > 1:
            middle = (low + high) // 2
            known = [p for p in self._mine(candidate) if p.quality == values[middle]]
            if not known:
                yield from self._probe(candidate, values[middle])
                known = [self.probes[-1]]
            if known[0].keeps(goals):
                low = middle
            else:
                high = middle

    def _guarded(self, candidate: Candidate, first: Probe) -> tuple[Probe, bool, str]:
        """The coarsest measured value that meets the target and keeps the guards; `first`, which
        meets the target alone, where none does. With a sentence that says so.
        """
        goals = self.request.guards
        if first.keeps(goals):
            kept = zip(goals, first.guards, strict=True)
            return first, True, "it keeps " + ", ".join(f"{g} ({g.shown(v)})" for g, v in kept)
        broken = [(g, v) for g, v in zip(goals, first.guards, strict=True) if not g.holds(v)]
        names = " and ".join(str(goal) for goal, _ in broken)
        values = " and ".join(goal.shown(value) for goal, value in broken)
        at_first = f"{candidate.name} at {first.quality:g} does not keep {names} ({values})"
        holding = [
            p
            for p in self._mine(candidate)
            if p.keeps(goals) and self.request.goal.holds(p.score) and p.quality < first.quality
        ]
        best = max(holding, key=lambda p: p.quality, default=None)
        if best is None:
            finest = candidate.values()[0]
            return first, False, f"{at_first}, and no finer value down to {finest:g} does"
        has = self.request.goal.shown(best.score)
        return best, True, f"{at_first}; {best.quality:g} is the coarsest that does, with {has}"

    def _within_rate(self, candidate: Candidate, limit: float) -> Iterator[Event]:
        """Where the answer needs more bits than allowed: close in on the finest value that does
        not, by halving.
        """
        over = self._answer_probe(candidate)
        if over is None or over.kbps <= limit:
            return
        low, high = over.quality, candidate.high + candidate.step
        while high - low > candidate.step:
            halves = round((high - low) / 2 / candidate.step)
            middle = low + max(1, halves) * candidate.step
            yield from self._probe(candidate, middle)
            if self.probes[-1].kbps > limit:
                low = middle
            else:
                high = middle

    def _foretell(self, candidate: Candidate) -> Found:
        belief = self._belief(self._current())
        told = foretell(belief, candidate, self.request.target)
        note = belief.note_of(candidate.encoder.name, candidate.preset)
        low, high = (self._kbps(bits) for bits in told.interval)
        return Found(
            candidate=candidate,
            quality=told.quality,
            score=told.score,
            kbps=self._kbps(told.bits_per_pixel),
            kbps_interval=(low, high),
            probe=None,
            answer=None,
            is_met=told.score >= self.request.target,
            sentences=("foretold, not measured", *((note,) if note else ())),
        )


def _settings(ids: Sequence[str], request: FindRequest) -> Iterator[tuple[Encoder, str, float]]:
    """Encoder, preset and quality value of every cell id that has the question's size and
    options.
    """
    options = request.options.name if request.options else None
    for text in ids:
        found = parse_id(text)
        if found is None or found.encoder not in ENCODERS:
            continue
        if (found.size, found.options) == (request.size, options):
            yield ENCODERS[found.encoder], found.preset, found.quality


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A foretold answer: quality value, score there, bits per pixel with its 80% interval."""

    quality: float
    score: float
    bits_per_pixel: float
    interval: tuple[float, float]


def foretell(belief: Belief, candidate: Candidate, target: float) -> Told:
    """The largest quality value that is believed to meet the target; the smallest where none is."""
    values = candidate.values()
    curve = belief.predict(candidate.encoder.name, candidate.preset, values)
    meets = [i for i, score in enumerate(curve.score) if score >= target]
    at = meets[-1] if meets else 0
    bits = float(curve.bits_per_pixel[at])
    factor = math.exp(Z80 * float(curve.ln_bpp_sd[at]))
    return Told(
        quality=values[at],
        score=float(curve.score[at]),
        bits_per_pixel=bits,
        interval=(bits / factor, bits * factor),
    )


def _merit(found: Found) -> tuple[bool, bool, float]:
    """Best first: answers that meet the target, measured before foretold, fewest bits."""
    return (not found.is_met, found.probe is None, found.kbps or math.inf)


def _value(goal: Goal, windows: Sequence[FrameValues], fps: float) -> float | None:
    """What a goal bounds, over the frames of all windows; None: no error at all."""
    if goal.metric == VMAF:
        return pooled(goal.statistic, [_finite(columns[VMAF]) for columns in windows], fps)
    return pooled_metric(METRICS[goal.metric], goal.statistic, windows, fps)


def _finite(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _sum(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
