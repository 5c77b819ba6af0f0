"""The Python API: the same calls that the commands make, without a screen and without an exit.

    import vmaftune
    result = vmaftune.find("film.mkv", encoders="svtav1", target=93)
    print(result.best.quality, result.best.kbps, result.command())

Every call raises the errors of `vmaftune.errors` and lets Ctrl-C through; `on_event` is called with
every event (`vmaftune.engine.events`) as it happens.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from vmaf_train.corpus.pooling import STATISTICS, WORST_WINDOW
from vmaf_train.prior import load as load_prior
from vmaf_train.search import parse_stop

from vmaftune.cell import Window, digest
from vmaftune.encoders import ENCODERS, OptionSet, Selection
from vmaftune.engine.cluster import Target, join
from vmaftune.engine.events import Event, NoticeEvent
from vmaftune.engine.stages import Limits
from vmaftune.engine.study import Options, Study
from vmaftune.errors import UsageError
from vmaftune.hardware.selection import choose_encoders
from vmaftune.media.containers import Stream, check_streams, companions
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.media.join import REFUSED_CODECS
from vmaftune.media.paste import user_command
from vmaftune.media.process import Runner
from vmaftune.media.shots import shots
from vmaftune.questions import pairs
from vmaftune.questions.film import EncodeRequest, Made
from vmaftune.questions.find import (
    CHEAP,
    FIRST_WINDOWS,
    SEARCHED,
    Candidate,
    Finder,
    FindRequest,
    Found,
    Probe,
    cell_of,
)
from vmaftune.questions.hull import Point
from vmaftune.questions.ladder import Against, LadderMaker, LadderRequest, Rung
from vmaftune.questions.pairs import PairPlan
from vmaftune.questions.sample import Sample, sample, whole
from vmaftune.questions.score import Scored, ScoreRequest, neg_of, plan_scores, with_teacher
from vmaftune.questions.shots import ShotEncoder
from vmaftune.questions.told import film_bytes, film_command, told_answers
from vmaftune.questions.whole import WholeEncoder
from vmaftune.reading import Corpus, read
from vmaftune.request.asked import Request
from vmaftune.request.cells import Plan
from vmaftune.request.film import Film, resolve_film
from vmaftune.request.flags import RunFlags, Texts, parse_flags, parse_run_flags, request_from
from vmaftune.request.template import read_template
from vmaftune.request.values import Size, parse_scale, parse_sizes
from vmaftune.sweeping import SweepResult, grid_question, measure

__all__ = [
    "Corpus",
    "EncodeJob",
    "FindResult",
    "Keep",
    "LadderResult",
    "LadderWanted",
    "Running",
    "SweepFlags",
    "SweepResult",
    "Wanted",
    "encode",
    "find",
    "ladder",
    "read",
    "score",
    "sweep",
]

RUNS = Path("runs/find")
SCORES = Path("runs/score")
SAMPLE_SECONDS = 2.0
EXPECTED_PROBES = 3
"""Encodes that a search takes, to foretell how long it runs: FIND's mean is below this."""

OnEvent = Callable[[Event], None]


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
    is that of the encode.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """How a call runs; nothing here changes a number.

    `out` is the run folder (None: the command's own), `jobs` how many cells are worked on at a
    time, `timeout_s` when one process counts as stalled, `ffmpeg` the program, `model_dir` the
    folder of the prior that a search starts from, `target` the cluster that measures (None: this
    machine; `engine.cluster.check_target`).
    """

    out: Path | None = None
    jobs: int | None = None
    timeout_s: float | None = None
    retry_failed: bool = False
    ffmpeg: str | None = None
    model_dir: Path | None = None
    runner: Runner = field(default_factory=Runner)
    target: Target | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFlags:
    """What only a sweep takes, as on the command line of `corpus`.

    `select` are globs over cell ids; `extend` adds the cells to the plan that the folder holds;
    `gpu` is as typed (`0,1`); `scratch_bytes` bounds what prepared references take of the disk;
    `verify` compares all rows of the folder with their frames first.
    """

    select: Sequence[str] = ()
    extend: bool = False
    keep_encodes: bool = False
    skip_unusable: bool = False
    gpu: str | None = None
    scorer: str = "auto"
    scratch_bytes: int | None = None
    verify: bool = False


def sweep(
    *sources: str | Path,
    encoders: str | None = None,
    presets: str | None = None,
    quality: str | None = None,
    options: str | None = None,
    flags: SweepFlags | None = None,
    running: Running | None = None,
    texts: Texts | None = None,
    on_event: OnEvent | None = None,
) -> SweepResult:
    """Encode and score every cell of a grid: sources x encoders x presets x quality values.

    `sources` are files or folders of clips; `encoders`, `presets`, `quality` and `options` are as
    on the command line (`x264=20:44:6;svtav1=20,35`). `texts` holds further flags of `corpus`
    (frames, scale, sweep file ...), `flags` what only a sweep takes, `running` how it runs. The
    folder is `running.out`, else that of the command; what it holds is not measured again. Raises
    UsageError, SourceError, ToolError and FolderError; a cell that fails is no error: see
    `SweepResult.num_failed`.
    """
    how, only = running or Running(), flags or SweepFlags()
    base = texts or Texts()
    asked = replace(
        base,
        sources=tuple(map(str, sources)) or base.sources,
        encoders=encoders or base.encoders,
        presets=presets or base.presets,
        quality=quality or base.quality,
        options=options or base.options,
        out=str(how.out) if how.out is not None else base.out,
    )
    run = parse_run_flags(
        select=only.select, features="six", gpu=only.gpu, scorer=only.scorer, pairs=False
    )
    question = grid_question(
        request_from(parse_flags(asked)), _run_flags(run, only, how), how.runner
    )
    return measure(question, sys.argv, on_event or (lambda event: None))


def _run_flags(words: RunFlags, only: SweepFlags, how: Running) -> RunFlags:
    return replace(
        words,
        extend=only.extend,
        keep_encodes=only.keep_encodes,
        skip_unusable=only.skip_unusable,
        scratch_budget=only.scratch_bytes,
        verify=only.verify,
        jobs=how.jobs,
        timeout=how.timeout_s,
        retry_failed=how.retry_failed,
        ffmpeg=how.ffmpeg,
    )


def find(
    film: str | Path,
    *,
    target: float | None = None,
    encoders: str = "x264",
    presets: str | None = None,
    options: str | None = None,
    wanted: Wanted | None = None,
    running: Running | None = None,
    texts: Texts | None = None,
    on_event: OnEvent | None = None,
) -> FindResult:
    """Which quality value of each encoder meets the target on a film.

    `encoders`, `presets` and `options` are as on the command line: `x264,svtav1`,
    `x264=slow;svtav1=5`. `target` takes the place of that of `wanted`. `wanted` says what is asked,
    `running` how it runs; `texts` holds further flags of `corpus` (crop, scale, allow ...). Raises
    UsageError, SourceError, ToolError and ModelError; a target that is not met is no error: see
    `FindResult.is_met`.
    """
    asked = replace(
        texts or Texts(),
        sources=(str(film),),
        encoders=encoders,
        presets=presets,
        options=options,
    )
    question = find_question(asked, _with_target(wanted, target), running or Running())
    return ask(question, model_dir=(running or Running()).model_dir, on_event=on_event)


def _with_target(wanted: Wanted | None, target: float | None) -> Wanted:
    asked = wanted or Wanted()
    return asked if target is None else replace(asked, target=target)


def find_question(texts: Texts, wanted: Wanted, running: Running) -> Question:
    """Everything that a search needs, with the film probed and its windows chosen.

    `wanted.within_points` is a standard error; `wanted.max_size` a share of the film's own size
    (0.8), `wanted.within_s` bounds the expected wall seconds. Raises as `find`.
    """
    _check(wanted)
    request = request_from(parse_flags(texts))
    ffmpeg = identify(running.runner, find_ffmpeg(running.ffmpeg), request.teacher)
    film, notices = resolve_film(request)
    slots = running.jobs or max(1, usable_cores() // request.threads)
    size = (
        parse_scale(wanted.size, "--size").of(film.whole.width, film.whole.height)
        if wanted.size
        else None
    )
    found = FindRequest(
        sample=_sample(film, wanted),
        candidates=_candidates(request, wanted),
        target=wanted.target,
        statistic=wanted.statistic,
        stop=wanted.stop,
        within_points=wanted.within_points,
        num_windows=wanted.samples,
        max_kbps=_limit(film, wanted),
        max_cpu=wanted.max_cpu,
        size=size,
        options=_options(request),
        threads=request.threads,
        teacher=request.teacher,
    )
    return Question(
        film=film,
        request=_within(found, wanted.within_s, slots),
        folder=running.out or find_folder(film.whole),
        ffmpeg=ffmpeg,
        options=Options(jobs=slots, timeout_s=running.timeout_s, retry_failed=running.retry_failed),
        notices=notices,
        target=running.target,
    )


def ask(
    question: Question, *, model_dir: Path | None = None, on_event: OnEvent | None = None
) -> FindResult:
    """Search. Every probe is kept in the question's folder. Raises as `find`."""
    request = question.request
    prior = load_prior(model_dir)
    told = on_event or (lambda event: None)
    with _study(question) as study:
        finder = Finder(request, study, prior)
        _drive(question, finder.run(), on_event)
        for event in told_answers(finder):
            told(event)
    return FindResult(
        film=request.sample.film,
        folder=question.folder,
        request=request,
        found=finder.found,
        probes=tuple(finder.probes),
    )


def encode(
    film: str | Path,
    out: str | Path,
    *,
    target: float | None = None,
    encoder: str = "x264",
    preset: str | None = None,
    options: str | None = None,
    quality: float | None = None,
    way: str = "whole",
    over_film: bool = False,
    verify: str = "windows",
    keep: Keep | None = None,
    force: bool = False,
    wanted: Wanted | None = None,
    running: Running | None = None,
    texts: Texts | None = None,
    on_event: OnEvent | None = None,
) -> Made:
    """Make the file that meets the target: search, encode, score what was made.

    `way` is whole (one encode of the film, scored inside) or shots (each shot encoded apart, its
    probe being its encode); `over_film` holds the target over the film instead of in each shot.
    `quality` takes the place of the search. `verify` is windows or full. Raises as `find`, and
    UsageError for an output that exists (but with `force`) or cannot hold the film's streams.
    """
    flags = replace(
        texts or Texts(),
        sources=(str(film),),
        encoders=encoder,
        presets=preset,
        options=options,
    )
    job = EncodeJob(
        out=Path(out),
        quality=quality,
        way=way,
        over_film=over_film,
        verify=verify,
        keep=keep or Keep(),
        force=force,
    )
    asked = _with_target(wanted, target)
    question, request = encode_question(flags, job, asked, running or Running())
    model_dir = (running or Running()).model_dir
    return make_film(question, request, model_dir=model_dir, on_event=on_event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What of a film is copied beside its pictures."""

    audio: bool = True
    subtitles: bool = True
    attachments: bool = True

    def of(self, streams: Sequence[Stream]) -> tuple[Stream, ...]:
        """The streams that are kept."""
        wanted = {
            "audio": self.audio,
            "subtitle": self.subtitles,
            "attachment": self.attachments,
        }
        return tuple(s for s in streams if wanted.get(s.kind, False))


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeJob:
    """The file to make and how; see `encode`."""

    out: Path
    quality: float | None = None
    way: str = "whole"
    over_film: bool = False
    verify: str = "windows"
    keep: Keep = field(default_factory=Keep)
    force: bool = False


def encode_question(
    texts: Texts, job: EncodeJob, wanted: Wanted, running: Running
) -> tuple[Question, EncodeRequest]:
    """Everything that an encode needs; refuses what cannot be held before anything is encoded.

    Raises as `encode`.
    """
    if running.target is not None and job.way != "shots":
        raise UsageError(
            "--cluster goes with --shots: one long encode is the work of one machine; leave one out"
        )
    if job.way not in ("whole", "shots") or job.verify not in ("windows", "full"):
        raise UsageError("an encode is whole or by shots, and verified by windows or in full")
    if job.out.exists() and not job.force:
        raise UsageError(f"{job.out} exists; name another file, or take its place with --force")
    question = find_question(texts, wanted, running)
    if len(question.request.candidates) != 1:
        raise UsageError("encode takes one encoder with one preset; `find` compares several")
    candidate = question.request.candidates[0]
    if job.quality is not None:
        candidate.encoder.check_quality(job.quality)
    streams = job.keep.of(companions(Path(question.film.whole.path)))
    check_streams(job.out, candidate.encoder.codec, streams)
    windows = _shot_windows(question, job) if job.way == "shots" else ()
    return question, EncodeRequest(
        film=question.film,
        out=job.out,
        find=question.request,
        streams=streams,
        quality=job.quality,
        shots=windows,
        over_film=job.over_film,
        verify_all=job.verify == "full",
    )


def _shot_windows(question: Question, job: EncodeJob) -> tuple[Window, ...]:
    """A window for each shot of the film. Raises UsageError for what cannot be joined."""
    film, candidate = question.film, question.request.candidates[0]
    if job.quality is not None:
        raise UsageError("--shots searches a quality value for each shot; leave out --quality")
    if "vfr" in film.whole.flags:
        raise UsageError(f"{film.whole.path} has a variable frame rate; encode it with --whole")
    if candidate.encoder.codec in REFUSED_CODECS:
        why = REFUSED_CODECS[candidate.encoder.codec]
        raise UsageError(f"{candidate.encoder.name} cannot be encoded by shots: {why}")
    if question.request.size is not None:
        raise UsageError("--shots and --size do not go together; use --scale, or --whole")
    timeout_s = question.options.timeout_s or max(3600.0, film.seconds * 10)
    spans = shots(Path(film.whole.path), film.facts, question.ffmpeg, timeout_s)
    return tuple(film.cut(span.start, span.num_frames) for span in spans)


def make_film(
    question: Question,
    request: EncodeRequest,
    *,
    model_dir: Path | None = None,
    on_event: OnEvent | None = None,
) -> Made:
    """Encode. Probes and finished encodes are kept in the question's folder until the file is
    there. Raises as `encode`.
    """
    prior = load_prior(model_dir)
    with _study(question) as study:
        maker: WholeEncoder | ShotEncoder
        if request.shots:
            maker = ShotEncoder(request, study, prior)
        else:
            maker = WholeEncoder(request, study, prior)
        _drive(question, maker.run(), on_event)
    assert maker.made is not None
    return maker.made


def _study(question: Question) -> Study:
    """The question's folder, opened to measure into: here, or on a cluster, whose workers say for
    themselves what they can run.
    """
    executor, hardware, options = None, None, question.options
    if question.target is not None:
        executor = join(
            question.target,
            question.ffmpeg,
            question.request.teacher,
            budget_bytes=options.budget_bytes,
            limits=Limits(timeout_s=options.timeout_s),
        )
        options = replace(options, jobs=executor.num_slots)
    else:
        hardware = choose_encoders(_selection(question.request), question.ffmpeg)
    return Study.open(
        question.folder,
        Plan(cells=(), sources=(), name=""),
        question.ffmpeg,
        options,
        argv=sys.argv,
        hardware=hardware,
        executor=executor,
        open_plan=True,
    )


def _drive(question: Question, events: Iterator[Event], on_event: OnEvent | None) -> None:
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


def _check(wanted: Wanted) -> None:
    """Raise UsageError for a number or word that makes no sense."""
    known = (*STATISTICS, WORST_WINDOW)
    if wanted.statistic not in known or wanted.statistic == "std":
        names = ", ".join(name for name in known if name != "std")
        raise UsageError(f"--stat {wanted.statistic}: use one of {names}")
    try:
        parse_stop(wanted.stop)
    except ValueError as failure:
        raise UsageError(f"--stop: {failure}") from failure
    if not 0 < wanted.target <= 100:
        raise UsageError(f"--target is {wanted.target:g}; VMAF goes from 0 to 100")
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


def _sample(film: Film, wanted: Wanted) -> Sample:
    if wanted.full:
        return whole(film)
    return sample(film, wanted.sample_seconds, most=wanted.samples)


def _candidates(request: Request, wanted: Wanted) -> tuple[Candidate, ...]:
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


def _options(request: Request) -> OptionSet | None:
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
    if seconds is None or request.sample.is_whole:
        return request
    each = EXPECTED_PROBES * _seconds_a_window(request, request.candidates[0], slots)
    most = int(seconds / each)
    if most < 1:
        raise UsageError(
            f"one window alone is expected to take {each:.0f} s and --within allows"
            f" {seconds:.0f}; name a faster preset, or shorter --sample-seconds"
        )
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
    if len(request.candidates) > SEARCHED:
        rows |= {name: ENCODERS[name] for name, _ in CHEAP}
    return Selection(encoders=tuple(rows.values()), named=named, auto=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreJob:
    """Files that are ready to be scored with one model."""

    plan: PairPlan
    folder: Path
    ffmpeg: Ffmpeg
    options: Options


def score(
    reference: str | Path,
    *distorted: str | Path,
    teacher: str = "auto",
    offset: int | None = None,
    display: str | None = None,
    neg: bool = False,
    running: Running | None = None,
    on_event: OnEvent | None = None,
) -> tuple[Scored, ...]:
    """How good files are against their reference: every frame's VMAF, and statistics of it.

    `offset` None finds a constant offset of up to 2 seconds; `display` is a size such as `1080` or
    `1280x720`; with `neg` each file is scored with the NEG model as well, in the second half of the
    answer. A pair that cannot be scored has no scores, and its row says why. Raises UsageError,
    SourceError and ToolError.
    """
    request = ScoreRequest(
        reference=Path(reference),
        distorted=tuple(Path(path) for path in distorted),
        teacher=teacher,
        offset=offset,
        display=parse_sizes(display, "--display")[0] if display else None,
    )
    jobs = score_jobs(request, running or Running(), neg=neg)
    return tuple(scored for job in jobs for scored in score_files(job, on_event))


def score_jobs(request: ScoreRequest, running: Running, *, neg: bool) -> tuple[ScoreJob, ...]:
    """The pairs of a request as a job, and with `neg` once more for the NEG model.

    Raises as `score`.
    """
    path = find_ffmpeg(running.ffmpeg)
    plan = plan_scores(request, identify(running.runner, path))
    teachers = {pair.teacher for pair in plan.pairs}
    assert len(teachers) == 1  # all pairs have one reference and one display size
    plans = [plan]
    if neg:
        plans.append(with_teacher(plan, neg_of(plan.pairs[0].teacher)))
    slots = running.jobs or usable_cores()
    options = Options(
        jobs=slots,
        pair_threads=max(1, slots // len(plan.pairs)),
        timeout_s=running.timeout_s,
        retry_failed=running.retry_failed,
    )
    return tuple(
        ScoreJob(
            plan=one,
            folder=_score_folder(one, running.out),
            ffmpeg=identify(running.runner, path, one.pairs[0].teacher),
            options=options,
        )
        for one in plans
    )


def score_files(job: ScoreJob, on_event: OnEvent | None = None) -> tuple[Scored, ...]:
    """Score what the job's folder does not answer. Raises as `score`."""
    told = on_event or (lambda event: None)
    with Study.open(job.folder, job.plan, job.ffmpeg, job.options, argv=sys.argv) as study:
        with closing(pairs.run(job.plan, study)) as events:
            for event in events:
                told(event)
        return tuple(_scored(study, job.plan))


def _scored(study: Study, plan: PairPlan) -> Iterator[Scored]:
    for pair in plan.pairs:
        row = study.result(pair)
        assert row is not None  # every pair of the plan was measured, or failed
        scores = study.scores(pair) if row.is_ok else ()
        yield Scored(pair=pair, row=row, scores=scores)


def _score_folder(plan: PairPlan, out: Path | None) -> Path:
    """`runs/score/<reference>-<8 hex of the pairs and the model>`, or `out`, with the model's name
    where it is NEG.
    """
    teacher = plan.pairs[0].teacher
    if out is not None:
        return out / teacher if teacher.endswith("neg") else out
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", plan.name)[:100]
    made_of = [teacher, *(pair.identity() for pair in plan.pairs)]
    return SCORES / f"{stem}-{digest(made_of)[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderWanted:
    """What `ladder` is asked, apart from the film: see `vmaf-tune ladder --help`."""

    sizes: str | None = None
    top: float = 95.0
    bottom: float = 50.0
    step: float = 6.0
    num_rungs: int | None = None
    min_kbps: float = 0.0
    max_kbps: float = math.inf
    statistic: str = "mean"
    samples: int = FIRST_WINDOWS
    sample_seconds: float = SAMPLE_SECONDS
    template: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderResult:
    """A film's ladder with one encoder: `rungs`, the best first, each measured as it ships, and
    every encode of the hull in `points`; `against` is the fixed ladder that it was compared with.
    """

    folder: Path
    request: LadderRequest
    rungs: tuple[Rung, ...]
    points: tuple[Point, ...]
    num_rung_encodes: int
    sentences: tuple[str, ...]
    against: tuple[Against, ...] = ()

    def command(self, rung: Rung) -> str:
        """The command that makes a rung of the whole film."""
        setting, film = rung.setting, self.request.sample.film
        extra = list(setting.options.args) if setting.options else []
        if setting.maxrate_kbps is not None and setting.bufsize_kbps is not None:
            extra += setting.encoder.cap_arguments(setting.maxrate_kbps, setting.bufsize_kbps)
        out = f"{Path(film.path).stem}_{rung.size[1]}p_{rung.kbps:.0f}k.mp4"
        return user_command(
            setting.encoder,
            setting.preset,
            setting.quality,
            source=film.path,
            out=out,
            size=rung.size if film.scale or setting.size else None,
            options=extra,
        )

    def playlist(self, rung: Rung) -> str:
        """The rung's line of an HLS multivariant playlist (RFC 8216, 4.3.4.2), CODECS left out.

        BANDWIDTH is the bound on the bitrate, or without one the mean.
        """
        peak = rung.setting.maxrate_kbps or rung.kbps
        rate = float(self.request.sample.film.frame_rate)
        return (
            f"#EXT-X-STREAM-INF:BANDWIDTH={math.ceil(peak * 1000)},"
            f"AVERAGE-BANDWIDTH={math.ceil(rung.kbps * 1000)},"
            f"RESOLUTION={rung.size[0]}x{rung.size[1]},FRAME-RATE={rate:.3f}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderQuestion:
    """A ladder that is ready to be asked for: nothing was measured for it yet."""

    request: LadderRequest
    folder: Path
    ffmpeg: Ffmpeg
    options: Options
    notices: tuple[str, ...]


def ladder(
    film: str | Path,
    *,
    encoder: str = "x264",
    preset: str | None = None,
    options: str | None = None,
    display: str | None = None,
    wanted: LadderWanted | None = None,
    running: Running | None = None,
    texts: Texts | None = None,
    on_event: OnEvent | None = None,
) -> LadderResult:
    """A bitrate ladder for a film: sizes and quality values, each rung encoded and scored.

    Encodes of every size are scored at `display` (the film's size). A ladder without rungs has
    none, and its `sentences` say why. Raises as `find`.
    """
    flags = replace(
        texts or Texts(),
        sources=(str(film),),
        encoders=encoder,
        presets=preset,
        options=options,
        scale=display,
    )
    how = running or Running()
    question = ladder_question(flags, wanted or LadderWanted(), how)
    return make_ladder(question, model_dir=how.model_dir, on_event=on_event)


def ladder_question(texts: Texts, wanted: LadderWanted, running: Running) -> LadderQuestion:
    """Everything that a ladder needs, with the film probed and its windows chosen. Raises as
    `ladder`.
    """
    questions = ladder_questions(texts, wanted, running)
    if len(questions) != 1:
        raise UsageError("a ladder is made with one encoder and one preset; ask once for each")
    return questions[0]


def ladder_questions(
    texts: Texts, wanted: LadderWanted, running: Running
) -> tuple[LadderQuestion, ...]:
    """The same for every encoder and preset that was named; all share one folder."""
    _check_ladder(wanted)
    request = request_from(parse_flags(texts))
    ffmpeg = identify(running.runner, find_ffmpeg(running.ffmpeg), request.teacher)
    film, notices = resolve_film(request)
    candidates = _candidates(request, Wanted())
    sizes, left_out = ladder_sizes(film.whole, wanted.sizes)
    asked = LadderRequest(
        sample=sample(film, wanted.sample_seconds, most=wanted.samples),
        encoder=candidates[0].encoder,
        preset=candidates[0].preset,
        sizes=sizes,
        top=wanted.top,
        bottom=wanted.bottom,
        step=wanted.step,
        num_rungs=wanted.num_rungs,
        min_kbps=wanted.min_kbps,
        max_kbps=wanted.max_kbps,
        statistic=wanted.statistic,
        num_windows=wanted.samples,
        options=_options(request),
        threads=request.threads,
        teacher=request.teacher,
        template=_fixed(film.whole, wanted.template),
    )
    slots = running.jobs or max(1, usable_cores() // request.threads)
    options = Options(jobs=slots, timeout_s=running.timeout_s, retry_failed=running.retry_failed)
    return tuple(
        LadderQuestion(
            request=replace(asked, encoder=candidate.encoder, preset=candidate.preset),
            folder=running.out or find_folder(film.whole),
            ffmpeg=ffmpeg,
            options=options,
            notices=(*notices, *left_out),
        )
        for candidate in candidates
    )


def make_ladder(
    question: LadderQuestion, *, model_dir: Path | None = None, on_event: OnEvent | None = None
) -> LadderResult:
    """Measure. Every encode is kept in the question's folder. Raises as `ladder`."""
    request, told = question.request, on_event or (lambda event: None)
    prior = load_prior(model_dir)
    row = request.encoder
    chosen = Selection(encoders=(row,), named=frozenset({row.name}), auto=False)
    with Study.open(
        question.folder,
        Plan(cells=(), sources=(), name=""),
        question.ffmpeg,
        question.options,
        argv=sys.argv,
        hardware=choose_encoders(chosen, question.ffmpeg),
        open_plan=True,
    ) as study:
        maker = LadderMaker(request, study, prior)
        for notice in question.notices:
            told(NoticeEvent(message=notice))
        for event in maker.run():
            told(event)
    return LadderResult(
        folder=question.folder,
        request=request,
        rungs=maker.rungs,
        points=tuple(maker.points),
        num_rung_encodes=maker.num_rung_encodes,
        sentences=tuple(maker.sentences),
        against=maker.against,
    )


LADDER_LINES = (2160, 1440, 1080, 720, 540, 360, 234)
"""Lines of the usual sizes of encodes; of a film that stands upright, its columns."""
NUM_SIZES = 4
LEAST_SIDE = 64


def ladder_sizes(
    film: Window, text: str | None
) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """The sizes of encodes, the largest first, none larger than the film; and notices of those
    that are left out. A single number is the shorter side. Raises UsageError.
    """
    shown = film.width, film.height
    is_upright = film.height > film.width
    wished = parse_sizes(text, "--sizes") if text else _usual_sizes(min(shown))
    sizes: dict[tuple[int, int], None] = {}
    notices = []
    for size in wished:
        if is_upright and size.width is None:
            size = replace(size, width=size.height, height=None)
        made = size.of(*shown)
        if made[0] > shown[0] or made[1] > shown[1]:
            notices.append(f"{made[0]}x{made[1]} is larger than {shown[0]}x{shown[1]}: left out")
        elif min(made) < LEAST_SIDE:
            raise UsageError(f"--sizes: {made[0]}x{made[1]} is too small; use 64 lines or more")
        else:
            sizes[made] = None
    if not sizes:
        raise UsageError(f"--sizes {text}: none fits into the film's {shown[0]}x{shown[1]}")
    return tuple(sorted(sizes, key=lambda s: -s[0] * s[1])), tuple(notices)


def _fixed(film: Window, text: str | None) -> tuple[tuple[tuple[int, int], float], ...]:
    """The rungs of a fixed ladder that are not larger than the film, by size and kbit/s."""
    if text is None:
        return ()
    found = []
    for rung in read_template(text):
        if rung.lines <= min(film.width, film.height):
            is_upright = film.height > film.width
            size = Size(width=None, height=rung.lines)
            if is_upright:
                size = Size(width=rung.lines, height=None)
            found.append((size.of(film.width, film.height), rung.kbps))
    if not found:
        shown = f"{film.width}x{film.height}"
        raise UsageError(f"--template {text}: none of its sizes fits into the film's {shown}")
    return tuple(found)


def _usual_sizes(lines: int) -> tuple[Size, ...]:
    """The film's own size and the usual ones below it."""
    below = [usual for usual in LADDER_LINES if usual < 0.9 * lines]
    chosen = [lines, *below][:NUM_SIZES]
    return tuple(Size(width=None, height=side) for side in chosen)


def _check_ladder(wanted: LadderWanted) -> None:
    """Raise UsageError for a number or word that makes no sense."""
    if not 0 < wanted.bottom < wanted.top <= 100:
        raise UsageError(
            f"--bottom {wanted.bottom:g} and --top {wanted.top:g}: VMAF goes from 0 to 100, and the"
            " bottom lies below the top"
        )
    if not 0.5 <= wanted.step <= 50:
        raise UsageError(f"--step is {wanted.step:g}; it takes 0.5 to 50 VMAF points")
    if wanted.num_rungs is not None and not 1 <= wanted.num_rungs <= 20:
        raise UsageError(f"--rungs is {wanted.num_rungs}; it takes 1 to 20")
    if not 0 <= wanted.min_kbps < wanted.max_kbps:
        raise UsageError(
            f"--min-kbps {wanted.min_kbps:g} is not below --max-kbps {wanted.max_kbps:g}"
        )
    _check(Wanted(statistic=wanted.statistic, sample_seconds=wanted.sample_seconds))
