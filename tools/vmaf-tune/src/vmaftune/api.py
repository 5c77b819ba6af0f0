"""The Python API: the same calls that the commands make, without a screen and without an exit.

    import vmaftune
    result = vmaftune.find("film.mkv", encoders="svtav1", target=93)
    print(result.best.quality, result.best.kbps, result.command())

Every call raises the errors of `vmaftune.errors` and lets Ctrl-C through; `on_event` is called with
every event (`vmaftune.engine.events`) as it happens.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from vmaftune.asking.encoding import EncodeJob, Keep, encode_question, make_film
from vmaftune.asking.finding import FindResult, Wanted, ask, find_question
from vmaftune.asking.laddered import LadderResult
from vmaftune.asking.laddering import LadderWanted, ladder_question, make_ladder
from vmaftune.asking.running import OnEvent, Running
from vmaftune.asking.scoring import score_files, score_jobs
from vmaftune.asking.sweeping import SweepFlags, SweepResult, grid_question, measure, run_flags
from vmaftune.metrics import parse_target
from vmaftune.questions.film import Made
from vmaftune.questions.score import Scored, ScoreRequest
from vmaftune.reading import Corpus, read
from vmaftune.request.flags import Texts, parse_flags, parse_run_flags, request_from
from vmaftune.request.values import parse_sizes

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
        request_from(parse_flags(asked)), run_flags(run, only, how), how.runner
    )
    return measure(question, sys.argv, on_event or (lambda event: None))


def find(
    film: str | Path,
    *,
    target: float | str | None = None,
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
    `x264=slow;svtav1=5`. `target` takes the place of that of `wanted`; `"xpsnr=40"` is one on
    another metric. `wanted` says what is asked, `running` how it runs; `texts` holds further flags
    of `corpus` (crop, scale, allow, metrics ...). Raises UsageError, SourceError, ToolError and
    ModelError; a target that is not met is no error: see `FindResult.is_met`.
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


def _with_target(wanted: Wanted | None, target: float | str | None) -> Wanted:
    asked = wanted or Wanted()
    if target is None:
        return asked
    if isinstance(target, str):
        metric, limit = parse_target(target)
        return replace(asked, metric=metric, target=limit)
    return replace(asked, target=target)


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

    Encodes of every size are scored at `display` (the film's size). With `wanted.encode` the rungs
    of the whole film are made as well. A ladder without rungs has none, and its `sentences` say
    why. Raises as `find`.
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
