"""`ladder` made ready and asked: the sizes of its encodes, the template it is held against."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vmaf_train.prior import Prior
from vmaf_train.prior import load as load_prior

from vmaftune.asking.finding import (
    SAMPLE_SECONDS,
    Wanted,
    candidates_of,
    check_wanted,
    find_folder,
    option_set,
)
from vmaftune.asking.joins import check_joins, shot_windows
from vmaftune.asking.laddered import LadderResult, files_event, ladder_event
from vmaftune.asking.running import OnEvent, Running, open_folder
from vmaftune.cell import Window
from vmaftune.encoders import Selection
from vmaftune.engine.events import NoticeEvent
from vmaftune.engine.options import Options
from vmaftune.engine.study import Study
from vmaftune.engine.target import Target
from vmaftune.errors import UsageError
from vmaftune.media import further
from vmaftune.media.containers import companions
from vmaftune.media.ffmpeg import Ffmpeg, find_ffmpeg, identify, usable_cores
from vmaftune.metrics import check_size, neg_of
from vmaftune.questions.film import stretches
from vmaftune.questions.find import FIRST_WINDOWS
from vmaftune.questions.find_request import Candidate
from vmaftune.questions.ladder import LadderMaker
from vmaftune.questions.ladder_values import LadderFiles, LadderRequest
from vmaftune.questions.rungs import RungsMaker, RungsRequest, check_folder
from vmaftune.questions.sample import sample
from vmaftune.request.asked import Request
from vmaftune.request.film import Film
from vmaftune.request.flags import Texts, parse_flags, request_from
from vmaftune.request.sources import resolve_film
from vmaftune.request.template import read_template
from vmaftune.request.values import Size, parse_sizes

GOP_S = 2.0
"""Seconds from keyframe to keyframe (HLS Authoring Specification for Apple Devices, 1.13)."""
LEAST_HALVED = 47
"""Frames a second of a film whose half is still a film's."""
LADDER_LINES = (2160, 1440, 1080, 720, 540, 360, 234)
"""Lines of the usual sizes of encodes; of a film that stands upright, its columns."""


NUM_SIZES = 4


LEAST_SIDE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderWanted:
    """What `ladder` is asked, apart from the film: see `vmaf-tune ladder --help`.

    Keyframes are `gop_s` seconds apart. `encode` is the folder for the rungs of the whole film
    (None: they are measured on windows alone), and `force` takes the place of a ladder in it. With
    `shots` each rung is encoded shot by shot, at values that give its score over the film. Sizes of
    `half_rate` lines or fewer have every second frame of a film of 48 a second or more.
    """

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
    gop_s: float = GOP_S
    encode: Path | None = None
    force: bool = False
    shots: bool = False
    half_rate: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderQuestion:
    """A ladder that is ready to be asked for: nothing was measured for it yet. `encode` is the
    folder of its files, if any are to be made.
    """

    film: Film
    request: LadderRequest
    folder: Path
    ffmpeg: Ffmpeg
    options: Options
    notices: tuple[str, ...]
    encode: Path | None = None
    by_shots: bool = False
    target: Target | None = None


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
    further.require(ffmpeg, request.metrics)
    check_size(request.metrics, film.whole.width, film.whole.height, film.whole.name)
    if "neg" in request.metrics:
        neg_of(request.teacher)
    candidates = candidates_of(request, Wanted())
    sizes, left_out = ladder_sizes(film.whole, wanted.sizes)
    asked = _request(request, wanted, film, candidates[0], sizes)
    slots = running.jobs or max(1, usable_cores() // request.threads)
    options = Options(jobs=slots, timeout_s=running.timeout_s, retry_failed=running.retry_failed)
    places = _places(wanted, candidates)
    _check_shots(wanted, film, candidates)
    return tuple(
        LadderQuestion(
            film=film,
            request=replace(asked, encoder=candidate.encoder, preset=candidate.preset),
            folder=running.out or find_folder(film.whole),
            ffmpeg=ffmpeg,
            options=options,
            notices=(*notices, *left_out),
            encode=place,
            by_shots=wanted.shots,
            target=running.target,
        )
        for candidate, place in zip(candidates, places, strict=True)
    )


def _request(
    request: Request,
    wanted: LadderWanted,
    film: Film,
    first: Candidate,
    sizes: tuple[tuple[int, int], ...],
) -> LadderRequest:
    """The ladder of the first encoder."""
    halved = _halved(film, sizes, wanted)
    gop = wanted.gop_s * film.whole.frame_rate
    return LadderRequest(
        sample=sample(film, wanted.sample_seconds, most=wanted.samples),
        encoder=first.encoder,
        preset=first.preset,
        sizes=sizes,
        top=wanted.top,
        bottom=wanted.bottom,
        step=wanted.step,
        num_rungs=wanted.num_rungs,
        min_kbps=wanted.min_kbps,
        max_kbps=wanted.max_kbps,
        statistic=wanted.statistic,
        num_windows=wanted.samples,
        options=option_set(request),
        threads=request.threads,
        teacher=request.teacher,
        metrics=request.metrics,
        template=_fixed(film.whole, wanted.template),
        gop=2 * max(1, round(gop / 2)) if halved else max(1, round(gop)),
        half=sample(film.halved(), wanted.sample_seconds, most=wanted.samples) if halved else None,
        halved=halved,
    )


def _places(wanted: LadderWanted, candidates: Sequence[Candidate]) -> list[Path | None]:
    """The folder of each encoder's files: the one that was named, or one each in it. Raises
    UsageError for a folder that may not be written into, and an encoder that cannot be aligned.
    """
    folder = wanted.encode
    if folder is None:
        if wanted.force:
            raise UsageError("--force is about the folder of --encode; name one, or leave it out")
        return [None for _ in candidates]
    for candidate in candidates:
        if not candidate.encoder.gop_args:
            raise UsageError(
                f"--encode: no way is known to give {candidate.encoder.name} its keyframes at fixed"
                " frames, and players cannot switch between rungs without; name another encoder"
            )
    places = [folder]
    if len(candidates) > 1:
        places = [folder / f"{c.encoder.name}_{c.preset}" for c in candidates]
    for place in places:
        check_folder(place, force=wanted.force)
    return list(places)


def _check_shots(wanted: LadderWanted, film: Film, candidates: Sequence[Candidate]) -> None:
    """Raise UsageError for rungs that cannot be encoded by shots."""
    if not wanted.shots:
        return
    if wanted.encode is None:
        raise UsageError("--shots says how --encode makes the rungs; name a folder with --encode")
    if wanted.statistic != "mean":
        raise UsageError(
            f"--shots holds the mean over the film, and --stat is {wanted.statistic}; leave one out"
        )
    for candidate in candidates:
        check_joins(film, candidate.encoder)


def make_ladder(
    question: LadderQuestion, *, model_dir: Path | None = None, on_event: OnEvent | None = None
) -> LadderResult:
    """Measure. Every encode is kept in the question's folder. Raises as `ladder`."""
    request, told = question.request, on_event or (lambda event: None)
    prior = load_prior(model_dir)
    row = request.encoder
    chosen = Selection(encoders=(row,), named=frozenset({row.name}), auto=False)
    with open_folder(
        question.folder,
        question.ffmpeg,
        question.options,
        chosen,
        teacher=request.teacher,
        target=question.target,
    ) as study:
        maker = LadderMaker(request, study, prior)
        for notice in question.notices:
            told(NoticeEvent(message=notice))
        for event in maker.run():
            told(event)
        result = LadderResult(
            folder=question.folder,
            request=request,
            rungs=maker.rungs,
            points=tuple(maker.points),
            num_rung_encodes=maker.num_rung_encodes,
            num_fixed_encodes=maker.num_fixed_encodes,
            sentences=tuple(maker.sentences),
            against=maker.against,
        )
        study.note([answer := ladder_event(result)])
        told(answer)
        if question.encode is None or not result.rungs:
            return result
        result = replace(result, files=_make_files(question, result, study, prior, told))
        study.note([files := files_event(result)])
        told(files)
    return result


def _make_files(
    question: LadderQuestion, result: LadderResult, study: Study, prior: Prior, told: OnEvent
) -> LadderFiles:
    """The rungs of the whole film, in the question's folder for them."""
    assert question.encode is not None
    film, request = question.film, question.request
    windows = request.sample.windows[: request.num_windows]
    sounds = [s for s in companions(Path(film.whole.path)) if s.kind == "audio"]
    maker = RungsMaker(
        RungsRequest(
            film=film,
            out=question.encode,
            rungs=result.rungs,
            windows=stretches(film) if request.sample.is_whole else windows,
            gop=request.gop,
            streams=tuple(sounds),
            statistic=request.statistic,
            teacher=request.teacher,
            shots=_shots(question) if question.by_shots else (),
            threads=request.threads,
            halved=request.halved,
        ),
        study,
        prior,
    )
    for event in maker.run():
        told(event)
    assert maker.made is not None
    return maker.made


def _halved(
    film: Film, sizes: Sequence[tuple[int, int]], wanted: LadderWanted
) -> frozenset[tuple[int, int]]:
    """The sizes that have every second frame. Raises UsageError where that makes no sense."""
    if wanted.half_rate is None:
        return frozenset()
    rate = float(film.whole.frame_rate)
    if rate < LEAST_HALVED:
        raise UsageError(
            f"--half-rate is for films of 48 frames a second or more, and"
            f" {film.whole.path} has {rate:g}; leave it out"
        )
    if wanted.shots:
        raise UsageError("--half-rate and --shots do not go together; leave one out")
    if "vfr" in film.whole.flags:
        raise UsageError(f"{film.whole.path} has a variable frame rate; leave --half-rate out")
    found = frozenset(size for size in sizes if min(size) <= wanted.half_rate)
    if not found:
        raise UsageError(
            f"--half-rate {wanted.half_rate}: no size has {wanted.half_rate} lines or fewer; name"
            " one with --sizes"
        )
    return found


def _shots(question: LadderQuestion) -> tuple[Window, ...]:
    timeout_s = question.options.timeout_s or max(3600.0, question.film.seconds * 10)
    return shot_windows(question.film, question.ffmpeg, timeout_s)


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
    if not 0.2 <= wanted.gop_s <= 20:
        raise UsageError(f"--gop is {wanted.gop_s:g}; it takes 0.2 to 20 seconds")
    if wanted.num_rungs is not None and not 1 <= wanted.num_rungs <= 20:
        raise UsageError(f"--rungs is {wanted.num_rungs}; it takes 1 to 20")
    if not 0 <= wanted.min_kbps < wanted.max_kbps:
        raise UsageError(
            f"--min-kbps {wanted.min_kbps:g} is not below --max-kbps {wanted.max_kbps:g}"
        )
    check_wanted(Wanted(statistic=wanted.statistic, sample_seconds=wanted.sample_seconds))
