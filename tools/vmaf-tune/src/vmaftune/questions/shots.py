"""Encode a film shot by shot: the probe that meets the target is the shot's final encode.

    shots --Search each--> cells, kept --join--> OUT

All searches run side by side, so every core has work. The result's score is measured, not foretold:
its frames are those that were scored, which the join checks by their digests.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vmaf_train.prior import Belief, Prior
from vmaf_train.search import Search

from vmaftune.cell import Cell, Window
from vmaftune.costs import counted
from vmaftune.engine.events import AnswerEvent, CellEvent, Event, NoticeEvent, QuestionEvent
from vmaftune.engine.films import FilmJoin, join_film
from vmaftune.engine.folder import now
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.questions.allot import ShotCurve, ShotPoint, allot, mean_score
from vmaftune.questions.film import EncodeRequest, Made, ShotMade
from vmaftune.questions.find_request import cell_of
from vmaftune.questions.progress import Progress
from vmaftune.questions.sample import pooled

ROUNDS = 6
"""Rounds of encodes over the film: each measures what the last one's curves ask for."""
USUAL_ENCODES = 2.2
"""Encodes that a shot's search takes (`make bench-encode`); only the first ETA rests on it."""
CLOSE = 0.1
"""VMAF points above the target at which another round is not worth its encodes."""


@dataclass(slots=True)
class _Shot:
    """One shot's search, and what was measured of it: cells by quality value. `is_done` when no
    further encode of it is wanted.
    """

    window: Window
    search: Search
    belief: Belief
    cells: dict[float, Cell] = field(default_factory=dict)
    points: dict[float, ShotPoint] = field(default_factory=dict)
    is_done: bool = False

    @property
    def num_frames(self) -> int:
        """Frames of the shot."""
        return self.window.num_frames or self.window.expected_frames


class ShotEncoder:
    """Makes the file of one film from its shots. `run` yields events; then `made` holds the
    result.
    """

    def __init__(self, request: EncodeRequest, study: Study, prior: Prior) -> None:
        self.request, self._study, self._prior = request, study, prior
        self.made: Made | None = None
        self._shots = [self._new_shot(window) for window in request.shots]
        self._asked: dict[str, tuple[_Shot, float]] = {}
        self._num_encodes = 0
        self._stored = 0  # frames of encodes that the folder had, which cost nothing
        self._progress = Progress("shots", request.film.num_frames)

    def run(self) -> Iterator[Event]:
        """Search every shot, join. Raises ToolError when a step cannot be done."""
        yield NoticeEvent(message=counted(len(self._shots), "shot"))
        self._study.note([self._question()])
        if self.request.over_film:
            yield from self._search_film()
            chosen = self._allotted(measured_only=True, aim=self.request.find.target)
        else:
            yield from self._search_shots()
            chosen = [self._answer(shot) for shot in self._shots]
        yield from self._deliver(chosen)

    def _question(self) -> QuestionEvent:
        find = self.request.find
        return QuestionEvent(
            film=self.request.film.whole.path,
            target=find.target,
            statistic=find.statistic,
            stop=find.stop,
            encoders=[candidate.name for candidate in find.candidates],
            asked_at=now(),
        )

    def _new_shot(self, window: Window) -> _Shot:
        find = self.request.find
        candidate = find.candidates[0]
        search = Search(
            self._prior,
            encoder=candidate.encoder.name,
            preset=candidate.preset,
            target=find.target,
            low=candidate.low,
            high=candidate.high,
            step=candidate.step,
            statistic=find.statistic,
            stop=find.stop,
        )
        return _Shot(window=window, search=search, belief=Belief(self._prior, find.statistic))

    def _search_shots(self) -> Iterator[Event]:
        """Run all searches side by side until each has its answer."""
        for shot in self._shots:
            self._advance(shot)
        for event in self._study.events():
            yield event
            if isinstance(event, CellEvent) and event.cell in self._asked:
                shot, quality = self._asked.pop(event.cell)
                self._take(shot, quality)
                self._advance(shot)
                yield from self._far()

    def _far(self) -> Iterator[Event]:
        """How far the shots are. Those that have ended say how many encodes the others will take;
        an encode of a long shot is more work.
        """
        ended = [shot for shot in self._shots if shot.is_done]
        made = sum(len(shot.points) for shot in ended)
        each = made / len(ended) if ended else USUAL_ENCODES
        left = sum(
            max(1.0, each - len(shot.points)) * shot.num_frames
            for shot in self._shots
            if not shot.is_done
        )
        done = sum(len(shot.points) * shot.num_frames for shot in self._shots)
        frames = sum(shot.num_frames for shot in ended)
        told = self._progress.at(frames, done=done - self._stored, left=left)
        if told is not None:
            yield told

    def _advance(self, shot: _Shot) -> None:
        """Ask for the shot's next encode; what the folder holds already is taken at once."""
        while (quality := shot.search.ask()) is not None:
            if not self._order(shot, quality):
                return
            self._take(shot, quality)
        shot.is_done = True

    def _order(self, shot: _Shot, quality: float) -> bool:
        """Ask for an encode of a shot. True when the folder has it already."""
        candidate = self.request.find.candidates[0]
        cell = cell_of(self.request.find, candidate, shot.window, quality)
        shot.cells[quality] = cell
        row = self._study.result(cell)
        is_here = row is not None and row.is_ok and self._study.kept(cell).exists()
        if is_here:
            self._stored += shot.num_frames
        else:
            self._asked[cell.id] = (shot, quality)
            self._num_encodes += 1
        self._study.submit([cell], keep=True)
        return is_here

    def _take(self, shot: _Shot, quality: float) -> None:
        """Learn from a measured encode of a shot."""
        cell = shot.cells[quality]
        row = self._study.result(cell)
        if row is None or not row.is_ok:
            why = row.error.message if row and row.error else "it has no row"
            raise ToolError(f"{cell.id} could not be encoded ({why})")
        find = self.request.find
        score = self._score(cell)
        bits = (row.size_bytes or 0) * 8
        width, height = cell.encode_size
        pixels = cell.num_frames * width * height
        motion2 = (row.per_frame_features or {}).get("motion2")
        shot.points[quality] = ShotPoint(quality=quality, score=score, bits=bits)
        shot.search.tell(quality, score, bits_per_pixel=bits / pixels, motion2=motion2)
        shot.belief.observe(
            find.candidates[0].encoder.name,
            find.candidates[0].preset,
            quality,
            score,
            bits_per_pixel=bits / pixels,
            motion2=motion2,
        )

    def _score(self, cell: Cell) -> float:
        name = self.request.find.statistic
        fps = float(cell.window.frame_rate)
        return pooled(name, [self._study.scores(cell)], fps)

    def _answer(self, shot: _Shot) -> ShotPoint:
        """The shot's answer: what meets the target, else the best that was measured."""
        quality = shot.search.answer.quality
        if quality is None:
            raise ToolError(f"{shot.window.name}: nothing could be measured")
        return shot.points[quality]

    def _search_film(self) -> Iterator[Event]:
        """Measure what one slope over all shots asks for, until the film's mean is the target."""
        target = aim = self.request.find.target
        for shot in self._shots:
            quality = self.request.quality
            if quality is None:
                quality = shot.search.ask()
            if quality is not None and self._order(shot, quality):
                self._take(shot, quality)
        yield from self._wait()
        for _ in range(ROUNDS):
            chosen = self._allotted(measured_only=False, aim=aim)
            for shot, point in zip(self._shots, chosen, strict=True):
                shot.is_done = point.quality in shot.points
            missing = [
                (shot, point.quality)
                for shot, point in zip(self._shots, chosen, strict=True)
                if point.quality not in shot.points
            ]
            for shot, quality in missing:
                if self._order(shot, quality):
                    self._take(shot, quality)
            yield from self._wait()
            got = [
                shot.points[point.quality] for shot, point in zip(self._shots, chosen, strict=True)
            ]
            mean = mean_score(self._curves(measured_only=False), got)
            if not missing and mean >= target or target <= mean <= target + CLOSE:
                return
            aim = min(100.0, aim + target - mean)

    def _wait(self) -> Iterator[Event]:
        for event in self._study.events():
            yield event
            if isinstance(event, CellEvent) and event.cell in self._asked:
                shot, quality = self._asked.pop(event.cell)
                self._take(shot, quality)
                shot.is_done = True
                yield from self._far()

    def _curves(self, *, measured_only: bool) -> list[ShotCurve]:
        return [
            ShotCurve(
                num_frames=shot.num_frames,
                points=tuple(shot.points.values()) if measured_only else self._points(shot),
            )
            for shot in self._shots
        ]

    def _points(self, shot: _Shot) -> tuple[ShotPoint, ...]:
        """Every quality value of a shot: measured where it was, else foretold."""
        find, window = self.request.find, shot.window
        candidate = find.candidates[0]
        values = candidate.values()
        curve = shot.belief.predict(candidate.encoder.name, candidate.preset, values)
        width, height = find.size or (window.width, window.height)
        pixels = shot.num_frames * width * height
        told = {
            q: ShotPoint(quality=q, score=float(score), bits=float(bits) * pixels)
            for q, score, bits in zip(values, curve.score, curve.bits_per_pixel, strict=True)
        }
        return tuple({**told, **shot.points}.values())

    def _allotted(self, *, measured_only: bool, aim: float) -> list[ShotPoint]:
        return allot(self._curves(measured_only=measured_only), aim)

    def _deliver(self, chosen: Sequence[ShotPoint]) -> Iterator[Event]:
        """Join the chosen encodes into the user's file; the others are removed."""
        request = self.request
        cells = [s.cells[p.quality] for s, p in zip(self._shots, chosen, strict=True)]
        yield NoticeEvent(message=f"joining {counted(len(cells), 'shot')}")
        wanted = FilmJoin(
            out=request.out,
            streams=request.streams,
            start=request.film.starts_at,
            force=request.force,
        )
        size = join_film(self._study, cells, request.film.whole, wanted)
        for shot in self._shots:
            for cell in shot.cells.values():
                self._study.kept(cell).unlink(missing_ok=True)
        self._study.finish()
        self.made = self._made(chosen, cells, size)
        told = self._told(cells, chosen, self.made)
        self._study.note([told])
        yield told
        yield NoticeEvent(message=f"{request.out} is made")

    def _told(self, cells: Sequence[Cell], chosen: Sequence[ShotPoint], made: Made) -> AnswerEvent:
        """The answer as the folder keeps it: cells at values of their own, and no one value."""
        find, film = self.request.find, self.request.film
        kbps = sum(point.bits for point in chosen) / 1000 / film.seconds
        finest, coarsest = min(p.quality for p in chosen), max(p.quality for p in chosen)
        return AnswerEvent(
            film=film.whole.path,
            encoder=find.candidates[0].encoder.name,
            preset=find.candidates[0].preset,
            target=find.target,
            statistic=find.statistic,
            is_met=made.is_met,
            is_measured=True,
            quality=None,
            score=round(made.score, 4),
            interval=None,
            kbps=round(kbps, 3),
            kbps_interval=None,
            size_bytes=made.size_bytes,
            stop="by shots",
            bracket=(None, None),
            confidence=None,
            num_encodes=made.num_encodes,
            num_windows=len(cells),
            encode_cpu_s=None,
            sentences=(
                f"{len(cells)} shots at {finest:g} to {coarsest:g} with {made.score:.2f},"
                f" {kbps:,.0f} kbit/s",
            ),
            command=None,
            curve=None,
            cells=[cell.id for cell in cells],
        )

    def _made(self, chosen: Sequence[ShotPoint], cells: Sequence[Cell], size: int) -> Made:
        find, film = self.request.find, self.request.film
        scores = [self._study.scores(cell) for cell in cells]
        score = pooled(find.statistic, scores, float(film.whole.frame_rate))
        met = all(point.score >= find.target for point in chosen)
        return Made(
            out=self.request.out,
            size_bytes=size,
            num_frames=sum(len(s) for s in scores),
            score=score,
            error=0.0,
            is_met=score >= find.target if self.request.over_film else met,
            shots=tuple(
                ShotMade(
                    start=cell.window.start_frame - film.whole.start_frame,
                    num_frames=cell.num_frames,
                    quality=point.quality,
                    score=point.score,
                    size_bytes=int(point.bits // 8),
                    num_encodes=len(shot.points),
                )
                for shot, point, cell in zip(self._shots, chosen, cells, strict=True)
            ),
            num_encodes=self._num_encodes,
        )
