"""What a ladder is when it is done: its rungs and hull, and how they are told, made and served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vmaftune.engine.events import (
    HullPoint,
    LadderCrossing,
    LadderEncoder,
    LadderEvent,
    LadderFile,
    LadderFilesEvent,
    LadderFixed,
    LadderRung,
    LaddersEvent,
)
from vmaftune.engine.folder import now
from vmaftune.media.hls import variant_line
from vmaftune.media.paste import film_command
from vmaftune.questions.hull import SizePoint
from vmaftune.questions.ladder_values import Against, LadderFiles, LadderRequest, Rung, RungFile

if TYPE_CHECKING:
    from vmaftune.report.hulls import Crossing, Hull


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderResult:
    """A film's ladder with one encoder: `rungs`, the best first, each measured as it ships, and
    every encode of the hull in `points`; `against` is the fixed ladder that it was compared with,
    `files` are the rungs of the whole film, None where they were not asked for.
    """

    folder: Path
    request: LadderRequest
    rungs: tuple[Rung, ...]
    points: tuple[SizePoint, ...]
    num_rung_encodes: int
    num_fixed_encodes: int
    sentences: tuple[str, ...]
    against: tuple[Against, ...] = ()
    files: LadderFiles | None = None

    def command(self, rung: Rung) -> str:
        """The command that makes a rung of the whole film."""
        film = self.request.sample_of(rung.size).film
        out = f"{Path(film.path).stem}_{rung.size[1]}p_{rung.kbps:.0f}k.mp4"
        return film_command(film, rung.setting, out=out)

    def playlist(self, rung: Rung) -> str:
        """The rung's line of an HLS multivariant playlist, its CODECS left out: they are known when
        a file is made. BANDWIDTH is the bound on the bitrate, or without one the mean.
        """
        peak = rung.setting.maxrate_kbps or rung.kbps
        return variant_line(
            peak=math.ceil(peak * 1000),
            mean=math.ceil(rung.kbps * 1000),
            width=rung.size[0],
            height=rung.size[1],
            frame_rate=rung.frame_rate,
        )

    @property
    def curve(self) -> Hull:
        """The cheapest bitrate at each score, and the size that has it."""
        from vmaftune.report.hulls import SizedPoint, hull_of

        points = self.points
        return hull_of([SizedPoint(size=p.size, kbps=p.kbps, score=p.score) for p in points])

    @property
    def hull(self) -> list[SizePoint]:
        """The measured encodes on the convex hull, the cheapest first."""
        from vmaftune.report.bdrate import convex_hull

        points = self.points
        return [points[i] for i in convex_hull([(point.kbps, point.score) for point in points])]


def ladder_event(result: LadderResult) -> LadderEvent:
    """The ladder as an event."""
    from vmaftune.report.hulls import crossings

    request = result.request
    return LadderEvent(
        film=request.sample.film.path,
        encoder=request.encoder.name,
        preset=request.preset,
        statistic=request.statistic,
        width=request.display[0],
        height=request.display[1],
        num_windows=len(request.sample.windows[: request.num_windows]),
        num_encodes=len(result.points),
        num_rung_encodes=result.num_rung_encodes,
        num_fixed_encodes=result.num_fixed_encodes,
        rungs=[_rung(result, rung) for rung in result.rungs],
        hull=[_point(point) for point in result.hull],
        sentences=[*result.sentences, *(gains(result) if result.against else ())],
        asked_at=now(),
        points=[_point(point) for point in result.points],
        curve=_drawn(result.curve),
        crossings=[_crossing(found) for found in crossings(result.curve)],
        fixed=[_fixed(one) for one in result.against],
    )


def files_event(result: LadderResult) -> LadderFilesEvent:
    """The files of a ladder as an event."""
    made, request = result.files, result.request
    assert made is not None
    return LadderFilesEvent(
        film=request.sample.film.path,
        encoder=request.encoder.name,
        preset=request.preset,
        playlist=str(made.playlist),
        files=[_file(file) for file in made.files],
        sounds=[str(path) for path in made.sounds],
        sentences=list(made.sentences),
    )


def ladders_event(results: Sequence[LadderResult]) -> LaddersEvent:
    """The hulls of several encoders held against each other."""
    from vmaftune.report.bdrate import convex_hull

    curves = [result.curve for result in results]
    every = [(i, point) for i, result in enumerate(results) for point in result.points]
    joint = [every[i] for i in convex_hull([(point.kbps, point.score) for _, point in every])]
    return LaddersEvent(
        film=results[0].request.sample.film.path,
        encoders=[
            LadderEncoder(
                encoder=result.request.encoder.name,
                preset=result.request.preset,
                bd_rates=[_bd_rate(curves[i], anchor) for anchor in curves],
                num_joint=sum(number == i for number, _ in joint),
            )
            for i, result in enumerate(results)
        ],
        joint=[_point(point) for _, point in joint],
        joint_encoders=[number for number, _ in joint],
    )


def _bd_rate(test: Hull, anchor: Hull) -> float | None:
    from vmaftune.report.hulls import bd_rate

    found = bd_rate(test, anchor)
    return None if found is None else round(found, 4)


def _drawn(hull: Hull) -> list[tuple[float, float]]:
    """kbit/s and score of every fifth place of a hull, and of its last one: every half a point."""
    places = sorted({*range(0, len(hull.scores), 5), len(hull.scores) - 1} - {-1})
    return [(round(math.exp(hull.ln_kbps[i]), 3), round(float(hull.scores[i]), 2)) for i in places]


def _rung(result: LadderResult, rung: Rung) -> LadderRung:
    return LadderRung(
        width=rung.size[0],
        height=rung.size[1],
        frame_rate=round(rung.frame_rate, 3),
        quality=rung.setting.quality,
        score=round(rung.score, 4),
        standard_error=round(rung.error, 4),
        kbps=round(rung.kbps, 3),
        maxrate_kbps=rung.setting.maxrate_kbps,
        bufsize_kbps=rung.setting.bufsize_kbps,
        command=result.command(rung),
        playlist=result.playlist(rung),
        metrics=dict(rung.metrics),
    )


def _point(point: SizePoint) -> HullPoint:
    return HullPoint(
        width=point.size[0],
        height=point.size[1],
        quality=point.quality,
        score=round(point.score, 4),
        kbps=round(point.kbps, 3),
    )


def _fixed(one: Against) -> LadderFixed:
    return LadderFixed(
        width=one.fixed.size[0],
        height=one.fixed.size[1],
        quality=one.fixed.setting.quality,
        score=round(one.fixed.score, 4),
        kbps=round(one.fixed.kbps, 3),
        hull_kbps=None if one.kbps is None else round(one.kbps, 3),
        saved=None if one.saved is None else round(one.saved, 4),
    )


def _file(file: RungFile) -> LadderFile:
    return LadderFile(
        path=str(file.path),
        width=file.rung.size[0],
        height=file.rung.size[1],
        frame_rate=round(file.rung.frame_rate, 3),
        size_bytes=file.size_bytes,
        kbps=round(file.kbps, 3),
        peak_kbps=round(file.rate.peak / 1000, 3),
        score=round(file.score, 4),
        standard_error=round(file.error, 4),
        foretold=round(file.rung.score, 4),
        codec=file.codec,
        num_keyframes=file.num_keyframes,
    )


def _crossing(found: Crossing) -> LadderCrossing:
    return LadderCrossing(
        width=found.above[0],
        height=found.above[1],
        below_width=found.below[0],
        below_height=found.below[1],
        score=round(found.score, 4),
        kbps=round(found.kbps, 3),
    )


def crossovers(result: LadderResult) -> list[str]:
    """Where one size takes over from another, as sentences."""
    from vmaftune.report.hulls import crossings

    return [
        f"{c.above[0]}x{c.above[1]} takes over from {c.below[0]}x{c.below[1]} at VMAF"
        f" {c.score:.1f}, {c.kbps:.0f} kbit/s"
        for c in crossings(result.curve)
    ]


def gains(result: LadderResult) -> list[str]:
    """What the film's ladder gives against the fixed one."""
    saved = [one.saved for one in result.against if one.saved is not None]
    told = []
    if saved:
        mean = sum(saved) / len(saved)
        told.append(f"{mean:.0%} of the bits are saved at equal VMAF, on average")
    top = result.against[0]
    told.append(
        f"at the {top.fixed.kbps:.0f} kbit/s of the fixed ladder's top rung the hull gives"
        f" {top.score - top.fixed.score:+.1f} VMAF"
    )
    fewer = len(result.against) - len(result.rungs)
    told.append(f"{len(result.rungs)} renditions and not {len(result.against)} ({-fewer:+d})")
    return told
