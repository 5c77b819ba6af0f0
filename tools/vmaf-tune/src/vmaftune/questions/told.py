"""What a question tells of its answers: an event each, and the command for the whole film."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from vmaf_train.prior import Foretold

from vmaftune.engine.events import AnswerEvent, ForetoldCurve
from vmaftune.media import paste
from vmaftune.metrics import VMAF
from vmaftune.questions.find import Finder, Found, Probe
from vmaftune.questions.find_request import FindRequest, cell_of
from vmaftune.questions.sample import Z95


def told_answers(finder: Finder) -> Iterator[AnswerEvent]:
    """The answers of a search that has ended, the best one last; the folder keeps them."""
    events = [answer_event(finder.request, found, finder.probes) for found in finder.found]
    finder.note(events)
    yield from reversed(events)  # the last line of NDJSON is the answer


def answer_event(request: FindRequest, found: Found, probes: Sequence[Probe]) -> AnswerEvent:
    """One encoder's answer as an event. `probes` are all that the search knows."""
    answer, probe = found.answer, found.probe
    return AnswerEvent(
        film=request.sample.film.path,
        encoder=found.candidate.encoder.name,
        preset=found.candidate.preset,
        target=request.target,
        statistic=request.statistic,
        is_met=found.is_met,
        is_measured=probe is not None,
        quality=found.quality,
        score=None if found.score is None else round(found.score, 4),
        interval=_interval(probe, is_vmaf=request.metric == VMAF) if probe else None,
        kbps=None if found.kbps is None else round(found.kbps, 3),
        kbps_interval=found.kbps_interval,
        size_bytes=film_bytes(request, found),
        stop=answer.stop if answer else None,
        bracket=answer.bracket if answer else (None, None),
        confidence=answer.confidence if answer else None,
        num_encodes=answer.num_encodes if answer else 0,
        num_windows=probe.num_windows if probe else 0,
        encode_cpu_s=probe.cpu_s if probe else None,
        sentences=found.sentences,
        command=film_command(request, found),
        curve=_curve(answer.curve) if answer and answer.curve else None,
        measured=_measured(found, probes),
        metric=request.metric,
        metrics=dict(probe.metrics) if probe else {},
    )


def film_bytes(request: FindRequest, found: Found) -> int | None:
    """Expected bytes of the film's pictures at an answer's bitrate."""
    if found.kbps is None:
        return None
    film = request.sample.film
    seconds = film.expected_frames / float(film.frame_rate)
    return round(found.kbps * 1000 / 8 * seconds)


def film_command(request: FindRequest, found: Found) -> str | None:
    """The command that a person types for the whole film; None without a quality value."""
    if found.quality is None:
        return None
    film = request.sample.film
    return paste.film_command(film, cell_of(request, found.candidate, film, found.quality).setting)


def _interval(probe: Probe, *, is_vmaf: bool) -> tuple[float, float] | None:
    half = Z95 * probe.error
    if not math.isfinite(probe.score):
        return None
    high = probe.score + half
    return round(probe.score - half, 3), round(min(100.0, high) if is_vmaf else high, 3)


def _curve(told: Foretold) -> ForetoldCurve:
    columns = (told.quality, told.score, told.low, told.high)
    quality, score, low, high = ([round(float(v), 3) for v in column] for column in columns)
    return ForetoldCurve(quality=quality, score=score, low=low, high=high)


def _measured(found: Found, probes: Sequence[Probe]) -> list[tuple[float, float, float]]:
    """What was measured of the answer's encoder on the answer's windows, finest first."""
    if found.probe is None:
        return []
    windows, name = found.probe.num_windows, found.candidate.name
    known = [p for p in probes if math.isfinite(p.score)]
    same = [p for p in known if p.candidate.name == name and p.num_windows == windows]
    points = {p.quality: (p.quality, round(p.score, 4), round(p.error, 4)) for p in same}
    return [points[quality] for quality in sorted(points)]
