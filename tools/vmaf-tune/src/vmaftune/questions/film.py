"""What `encode` asks for a film, and what it gets: shared by both ways of making the file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaftune.cell import Pair, Window
from vmaftune.engine.events import Event
from vmaftune.engine.rows import Item
from vmaftune.engine.study import Study
from vmaftune.errors import ToolError
from vmaftune.media.containers import Stream
from vmaftune.questions.find_request import FindRequest
from vmaftune.request.film import Film
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import resolve_film

STRETCH_S = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeRequest:
    """A film to encode. `find` says encoder, target and windows (one candidate); `quality` takes
    the place of a search, and with `shots` and `over_film` is where it begins. `streams` are what
    is copied beside the pictures. `shots` are encoded apart, and `over_film` holds the target over
    all of them; `verify_all` scores the whole result. `force` lets the
    file take the place of another.
    """

    film: Film
    out: Path
    find: FindRequest
    streams: tuple[Stream, ...]
    quality: float | None = None
    shots: tuple[Window, ...] = ()
    over_film: bool = False
    verify_all: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmAttempt:
    """One encode of the film at `quality`. Scores in VMAF points: `foretold` from windows encoded
    alone (None where nothing was foretold), `measured` in the encode itself, `error` the standard
    error of the latter.
    """

    quality: float
    foretold: float | None
    measured: float
    error: float
    size_bytes: int
    cpu_s: float | None
    num_windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShotMade:
    """One shot of the result: frames from `start` on, its quality value, score and bytes."""

    start: int
    num_frames: int
    quality: float
    score: float
    size_bytes: int
    num_encodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """The finished file. `score` is measured over the film, VMAF points, `error` its standard
    error (0 where every frame was scored); `attempts` or `shots` say how it was made.
    """

    out: Path
    size_bytes: int
    num_frames: int
    score: float
    error: float
    is_met: bool
    attempts: tuple[FilmAttempt, ...] = ()
    shots: tuple[ShotMade, ...] = ()
    num_encodes: int = 0


def measured(study: Study, items: Sequence[Item], what: str) -> Iterator[Event]:
    """Measure cells or pairs. Raises ToolError naming the first one that gave no score."""
    study.submit(items)
    yield from study.events()
    for item in items:
        row = study.result(item)
        if row is None or not row.is_ok:
            why = row.error.message if row and row.error else "it has no row"
            raise ToolError(f"{what}: {item.id} could not be measured ({why})")


def pairs_inside(
    film: Film, windows: Sequence[Window], encode: Path, teacher: str
) -> tuple[Pair, ...]:
    """Each window of a film with the same frames of an encode of the whole film."""
    texts = Texts(sources=(str(encode),), allow="vfr,interlaced,hdr")
    made, _ = resolve_film(request_from(parse_flags(texts)))
    return tuple(_pair(film, made, window, teacher) for window in windows)


def _pair(film: Film, made: Film, window: Window, teacher: str) -> Pair:
    frames = window.num_frames or window.expected_frames
    start = (window.start_frame - film.whole.start_frame) // film.whole.every
    return Pair(
        reference=film.cut(start, frames),
        distorted=replace(made.cut(start, frames), fps=window.fps),
        made=None,
        teacher=teacher,
        features="six",
        kbps=None,
    )


def stretches(film: Film) -> tuple[Window, ...]:
    """The whole film as windows of 4 seconds, which are scored side by side."""
    length = max(1, round(STRETCH_S * film.whole.frame_rate))
    starts = range(0, film.num_frames, length)
    return tuple(film.cut(start, min(length, film.num_frames - start)) for start in starts)
