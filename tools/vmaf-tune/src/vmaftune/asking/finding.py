"""`find` made ready and asked: the film probed, its windows chosen, the probes' folder opened."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vmaf_train.corpus.pooling import STATISTICS, WORST_WINDOW
from vmaf_train.prior import load as load_prior
from vmaf_train.search import parse_stop

from vmaftune.asking.running import OnEvent, Running, open_folder
from vmaftune.cell import Window, digest
from vmaftune.encoders import ENCODERS, OptionSet, Selection
from vmaftune.engine.events import Event, NoticeEvent
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.engine.target import Target
from vmaftune.errors import UsageError
from vmaftune.media import further
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.metrics import VMAF, Goal, check_known, check_size, neg_of, ordered
from vmaftune.questions.find import CHEAP, FIRST_WINDOWS, SEARCHED, Finder, Found, Probe
from vmaftune.questions.find_request import Candidate, FindRequest, cell_of
from vmaftune.questions.sample import Sample, sample, whole
from vmaftune.questions.told import film_bytes, film_command, told_answers
from vmaftune.request.asked import Request
from vmaftune.request.film import Film
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import resolve_film
from vmaftune.request.values import parse_scale

RUNS = Path("runs/find")


SAMPLE_SECONDS = 2.0


EXPECTED_PROBES = 3
"""Encodes that a search takes, to foretell how long it runs: FIND's mean is below this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What `find` is asked, apart from the film.

    `target` is in VMAF points of `statistic` (mean, harmonic, p1, p5, p10, min, worst-window).
    `stop` says when a search may end: proven (both sides of the target were encoded), confident, or
    `tolerance=0.5` (VMAF points). A score is measured on windows of `sample_seconds` that are added
    until its standard error is `within_points`; `samples` fixes their number, `full` takes the
    whole film instead, and `within_s` bounds the expected wall seconds. The search goes from
    `min_quality` to `max_quality` in steps of `step`. The answer has at most `max_kbps` kbit/s,
    `max_size` of the film's own size (0.8) and `max_cpu` CPU seconds for one second of film. `size`
    is that of the encode. `metric` is what the target is of (`metrics.NAMES`), and `guards` are
    limits on metrics that the answer keeps as well.
    """

    target: float = 93.0
    statistic: str = "mean"
    stop: str = "confident"
    samples: int | None = None
    sample_seconds: float = SAMPLE_SECONDS
    within_points: float = 0.5
    within_s: float | None = None
    full: bool = False
    min_quality: float | None = None
    max_quality: float | None = None
    step: float = 1
    max_kbps: float | None = None
    max_size: float | None = None
    max_cpu: float | None = None
    size: str | None = None
    metric: str = VMAF
    guards: tuple[Goal, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FindResult:
    """The answers for one film, best first, and what was measured for them.

    `folder` is the run folder that holds every probe.
    """

    film: Window
    folder: Path
    request: FindRequest
    found: tuple[Found, ...]
    probes: tuple[Probe, ...]

    @property
    def best(self) -> Found:
        """The answer with the fewest bits among those that meet the target, else the nearest."""
        return self.found[0]

    @property
    def is_met(self) -> bool:
        """True when an answer that was measured meets the target and the limits."""
        return self.best.is_met and self.best.probe is not None

    @property
    def seconds(self) -> float:
        """Length of the film."""
        return self.film.expected_frames / float(self.film.frame_rate)

    def size_bytes(self, found: Found) -> int | None:
        """Expected bytes of the film's pictures at an answer's bitrate."""
        return film_bytes(self.request, found)

    def command(self, found: Found | None = None) -> str | None:
        """The command that a person types for the whole film, of the best answer where none is
        given; None without a quality value.
        """
        return film_command(self.request, found or self.best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question about a film that is ready to be asked: nothing was measured for it yet."""

    film: Film
    request: FindRequest
    folder: Path
    ffmpeg: Ffmpeg
    options: Options
    notices: tuple[str, ...]
    target: Target | None = None

    def expected_s(self) -> float:
        """Expected wall seconds, from the encoder table's costs."""
        windows = self.request.num_windows or min(FIRST_WINDOWS, len(self.request.sample.windows))
        first = self.request.candidates[0]
        return EXPECTED_PROBES * windows * _seconds_a_window(self.request, first, self.options.jobs)


def find_question(texts: Texts, wanted: Wanted, running: Running) -> Question:
    """Everything that a search needs, with the film probed and its windows chosen.

    `wanted.within_points` is a standard error; `wanted.max_size` a share of the film's own size
    (0.8), `wanted.within_s` bounds the expected wall seconds. Raises as `find`.
    """
    check_wanted(wanted)
    request = request_from(parse_flags(texts))
    ffmpeg = identify(running.runner, find_ffmpeg(running.ffmpeg), request.teacher)
    film, notices = resolve_film(request)
    slots = running.jobs or max(1, usable_cores() // request.threads)
    _check_metrics(request, wanted, film, ffmpeg)
    found = _find_request(request, wanted, film)
    return Question(
        film=film,
        request=_within(found, wanted.within_s, slots),
        folder=running.out or find_folder(film.whole),
        ffmpeg=ffmpeg,
        options=Options(jobs=slots, timeout_s=running.timeout_s, retry_failed=running.retry_failed),
        notices=notices,
        target=running.target,
    )


def _check_metrics(request: Request, wanted: Wanted, film: Film, ffmpeg: Ffmpeg) -> None:
    """Raise ToolError and UsageError for a metric that cannot be measured here, or of this film."""
    metrics = ordered((*request.metrics, wanted.metric, *(g.metric for g in wanted.guards)))
    further.require(ffmpeg, metrics)
    check_size(metrics, film.whole.width, film.whole.height, film.whole.name)
    if "neg" in metrics:
        neg_of(request.teacher)


def _find_request(request: Request, wanted: Wanted, film: Film) -> FindRequest:
    size = parse_scale(wanted.size, "--size") if wanted.size else None
    return FindRequest(
        sample=_sample(film, wanted),
        candidates=candidates_of(request, wanted),
        target=wanted.target,
        statistic=wanted.statistic,
        stop=wanted.stop,
        within_points=wanted.within_points,
        num_windows=wanted.samples,
        max_kbps=_limit(film, wanted),
        max_cpu=wanted.max_cpu,
        size=size.of(film.whole.width, film.whole.height) if size else None,
        options=option_set(request),
        threads=request.threads,
        teacher=request.teacher,
        metric=wanted.metric,
        guards=wanted.guards,
        metrics=request.metrics,
    )


def ask(
    question: Question, *, model_dir: Path | None = None, on_event: OnEvent | None = None
) -> FindResult:
    """Search. Every probe is kept in the question's folder. Raises as `find`."""
    request = question.request
    prior = load_prior(model_dir)
    told = on_event or (lambda event: None)
    with open_study(question) as study:
        finder = Finder(request, study, prior)
        drive(question, finder.run(), on_event)
        for event in told_answers(finder):
            told(event)
    return FindResult(
        film=request.sample.film,
        folder=question.folder,
        request=request,
        found=finder.found,
        probes=tuple(finder.probes),
    )


def open_study(question: Question) -> Study:
    """The question's folder, opened to measure into."""
    return open_folder(
        question.folder,
        question.ffmpeg,
        question.options,
        _selection(question.request),
        teacher=question.request.teacher,
        target=question.target,
    )


def drive(question: Question, events: Iterator[Event], on_event: OnEvent | None) -> None:
    """Let a question run, and tell of what happens."""
    told = on_event or (lambda event: None)
    for notice in question.notices:
        told(NoticeEvent(message=notice))
    for event in events:
        told(event)


def find_folder(film: Window) -> Path:
    """`runs/find/<film>-<8 hex of content and preparation>`: all questions about it share it."""
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", film.name)[:100]
    return RUNS / f"{stem}-{digest(film.identity())[:8]}"


def check_wanted(wanted: Wanted) -> None:
    """Raise UsageError for a number or word that makes no sense."""
    known = (*STATISTICS, WORST_WINDOW)
    if wanted.statistic not in known or wanted.statistic == "std":
        names = ", ".join(name for name in known if name != "std")
        raise UsageError(f"--stat {wanted.statistic}: use one of {names}")
    try:
        parse_stop(wanted.stop)
    except ValueError as failure:
        raise UsageError(f"--stop: {failure}") from failure
    _check_target(wanted)
    positive = {
        "--within-points": wanted.within_points,
        "--sample-seconds": wanted.sample_seconds,
        "--step": wanted.step,
        "--max-kbps": wanted.max_kbps,
        "--max-cpu": wanted.max_cpu,
        "--max-size": wanted.max_size,
    }
    for name, value in positive.items():
        if value is not None and not 0 < value < math.inf:
            raise UsageError(f"{name} is {value:g}; it takes a number above 0")


def _check_target(wanted: Wanted) -> None:
    """Raise UsageError for a target that no encode can have, or a statistic that there is not."""
    check_known("--target", wanted.metric, wanted.statistic)
    if wanted.metric in (VMAF, "neg") and not 0 < wanted.target <= 100:
        raise UsageError(f"--target is {wanted.target:g}; VMAF goes from 0 to 100")
    if wanted.metric in ("ssim", "ms_ssim") and not 0 < wanted.target <= 1:
        raise UsageError(f"--target is {wanted.metric}={wanted.target:g}; it goes from 0 to 1")
    if not 0 < wanted.target < math.inf:
        raise UsageError(f"--target is {wanted.metric}={wanted.target:g}; it must be above 0")
    if wanted.metric == "cambi" and wanted.statistic == "harmonic":
        raise UsageError("--stat harmonic: of CAMBI more is worse, and it has no harmonic mean")


def _sample(film: Film, wanted: Wanted) -> Sample:
    if wanted.full:
        return whole(film)
    return sample(film, wanted.sample_seconds, most=wanted.samples)


def candidates_of(request: Request, wanted: Wanted) -> tuple[Candidate, ...]:
    """The encoders and presets of the request, each once, with the range of the search."""
    found: dict[tuple[str, str], Candidate] = {}
    for block in request.blocks:
        for setting in block.settings:
            row = setting.encoder
            low = wanted.min_quality if wanted.min_quality is not None else row.quality_min
            high = wanted.max_quality if wanted.max_quality is not None else row.quality_max
            for value in (low, high):
                row.check_quality(value)
            if low > high:
                raise UsageError(
                    f"--min-quality {low:g} is above --max-quality {high:g}; the smaller value is"
                    " the finer quality"
                )
            row.check_quality(low + wanted.step if low + wanted.step <= high else low)
            found[row.name, setting.preset] = Candidate(
                encoder=row,
                preset=setting.preset,
                low=math.ceil(low / wanted.step) * wanted.step,
                high=high,
                step=wanted.step,
            )
    return tuple(found.values())


def option_set(request: Request) -> OptionSet | None:
    """The one option set that was asked for, if any. Raises UsageError for several."""
    sets = {s.options.name: s.options for b in request.blocks for s in b.settings if s.options}
    if len(sets) > 1:
        raise UsageError("find takes one set of --options; ask once for each")
    return next(iter(sets.values()), None)


def _limit(film: Film, wanted: Wanted) -> float | None:
    """The bitrate that the answer may have, kbit/s; None without a limit."""
    limits = [wanted.max_kbps] if wanted.max_kbps is not None else []
    if wanted.max_size is not None:
        limits.append(wanted.max_size * film.whole.size_bytes * 8 / 1000 / film.seconds)
    return min(limits, default=None)


def _within(request: FindRequest, seconds: float | None, slots: int) -> FindRequest:
    """As many windows as the expected time allows. Raises UsageError when that is not even one."""
    if seconds is None:
        return request
    each = EXPECTED_PROBES * _seconds_a_window(request, request.candidates[0], slots)
    most = int(seconds / each)
    if most < 1:
        what = "the whole film" if request.sample.is_whole else "one window alone"
        raise UsageError(
            f"{what} is expected to take {each:.1f} s and --within allows {seconds:g}; name a"
            " faster preset, or shorter --sample-seconds"
        )
    if request.sample.is_whole:
        return request
    windows = request.sample.windows[:most]
    return replace(request, sample=replace(request.sample, windows=windows))


def _seconds_a_window(request: FindRequest, candidate: Candidate, slots: int) -> float:
    """Expected wall seconds for one window at one setting."""
    cell = cell_of(request, candidate, request.sample.windows[0], candidate.low)
    return (cell.expected_encode_s + cell.expected_score_s) / slots


def _selection(request: FindRequest) -> Selection:
    """The encoders that the search may use."""
    rows = {c.encoder.name: c.encoder for c in request.candidates}
    named = frozenset(rows)
    if len(request.candidates) > SEARCHED and request.metric == VMAF:
        rows |= {name: ENCODERS[name] for name, _ in CHEAP}
    return Selection(encoders=tuple(rows.values()), named=named, auto=False)
