"""`vmaf-tune find`: which quality value meets the target on a film, with the fewest encodes."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaftune import console
from vmaftune.commands.options import (
    Allow,
    Cluster,
    Crop,
    Deinterlace,
    DryRun,
    EncoderOptions,
    EncodeSize,
    FfmpegPath,
    Insecure,
    Jobs,
    MaxQuality,
    Metrics,
    MinQuality,
    OneEncoder,
    Presets,
    PriorFolder,
    RetryFailed,
    SampleSeconds,
    Scale,
    Stop,
    Teacher,
    Timeout,
    WithinPoints,
    Workers,
)
from vmaftune.commands.signals import interruptible
from vmaftune.costs import counted, duration
from vmaftune.engine.events import to_json
from vmaftune.engine.target import check_target
from vmaftune.errors import SourceError, TargetMissed, UsageError
from vmaftune.media.process import Runner
from vmaftune.metrics import METRICS, VMAF, label_of, parse_guards, parse_target
from vmaftune.request.flags import Texts

if TYPE_CHECKING:
    from vmaftune.asking.finding import FindResult, Question, Wanted
    from vmaftune.asking.running import Running
    from vmaftune.questions.find import Found, Probe
    from vmaftune.questions.find_request import FindRequest


def find(
    films: Annotated[list[str], typer.Argument(help="Films, or folders of films.")],
    encoder: OneEncoder = None,
    encoders: Annotated[
        str | None, typer.Option(help="Several encoders, compared at the target: x264,svtav1.")
    ] = None,
    preset: Presets = None,
    target: Annotated[
        str, typer.Option(help="VMAF to meet: 93; or another metric: xpsnr=40, cambi=5.")
    ] = "93",
    guard: Annotated[
        str | None,
        typer.Option(help="Limits that the answer must keep as well: cambi<=5,vmaf.p5>=85."),
    ] = None,
    metrics: Metrics = None,
    stat: Annotated[
        str,
        typer.Option(help="What must meet it: mean, harmonic, p10, p5, p1, min, worst-window."),
    ] = "mean",
    stop: Stop = "confident",
    max_kbps: Annotated[
        float | None, typer.Option(help="The most kbit/s that the answer may take.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(help="The same as a share of the film's own size: 80%.")
    ] = None,
    max_cpu: Annotated[
        float | None,
        typer.Option(help="CPU seconds of encoding for a second of film; slower ones are out."),
    ] = None,
    min_quality: MinQuality = None,
    max_quality: MaxQuality = None,
    step: Annotated[
        float, typer.Option(help="Distance of quality values; 0.25 where the encoder can.")
    ] = 1,
    samples: Annotated[str, typer.Option(help="Windows to measure: auto, or a number.")] = "auto",
    sample_seconds: SampleSeconds = 2.0,
    within_points: WithinPoints = 0.5,
    within: Annotated[
        str | None, typer.Option(help="Keep the expected wall time below this: 90s, 10m, 2h.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Measure the whole film instead of windows.")
    ] = False,
    options: EncoderOptions = None,
    size: EncodeSize = None,
    crop: Crop = None,
    scale: Scale = None,
    allow: Allow = None,
    deinterlace: Deinterlace = False,
    vmaf_model: Teacher = None,
    out: Annotated[
        str | None,
        typer.Option(help="The run's folder. Default: runs/find/<film>.", metavar="PATH"),
    ] = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    workers: Workers = None,
    insecure: Insecure = False,
    timeout: Timeout = None,
    retry_failed: RetryFailed = False,
    model_dir: PriorFolder = None,
    ffmpeg: FfmpegPath = None,
    dry_run: DryRun = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="NDJSON: each probe, then the answers.")
    ] = False,
) -> None:
    """Find the quality value that meets a VMAF target on a film. About three encodes of windows
    of the film are enough.

    A target on another metric (xpsnr=40) is searched for without the model of earlier encodes,
    which knows VMAF only.
    Every probe is kept: a second target, statistic or encoder costs only what is new. Exit code 7
    when the target cannot be met.

    Example: vmaf-tune find film.mkv --encoder svtav1 --preset 5 --target 93
    """
    from vmaftune.asking.finding import Wanted
    from vmaftune.asking.running import Running

    if encoder and encoders:
        raise UsageError("--encoder names one and --encoders several; give one of the two")
    runner = Runner(most_s=timeout, tell=console.say)
    metric, limit = parse_target(target)
    wanted = Wanted(
        target=limit,
        metric=metric,
        guards=parse_guards(guard),
        statistic=stat,
        stop=stop,
        samples=_count(samples),
        sample_seconds=sample_seconds,
        within_points=within_points,
        within_s=_seconds(within),
        full=full,
        min_quality=min_quality,
        max_quality=max_quality,
        step=step,
        max_kbps=max_kbps,
        max_size=_share(max_size),
        max_cpu=max_cpu,
        size=size,
    )
    running = Running(
        out=Path(out) if out else None,
        jobs=jobs,
        timeout_s=timeout,
        retry_failed=retry_failed,
        ffmpeg=ffmpeg,
        model_dir=model_dir,
        runner=runner,
        target=check_target(cluster, workers, insecure=insecure),
    )
    texts = Texts(
        encoders=next((named for named in (encoder, encoders) if named is not None), "x264"),
        presets=preset,
        options=options,
        crop=crop,
        scale=scale,
        allow=allow,
        deinterlace=deinterlace,
        vmaf_model=vmaf_model,
        metrics=metrics,
        out=out,
    )
    with interruptible(runner):
        answer_films(films, texts, wanted, running, dry_run=dry_run, as_json=as_json)


def answer_films(
    films: list[str],
    texts: Texts,
    wanted: Wanted,
    running: Running,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Ask about each film in turn, and about all of them together where there are several.

    Raises TargetMissed when a film does not meet the target.
    """
    from vmaftune.asking.finding import find_question
    from vmaftune.request.sources import find_clips

    paths = [clip.path for clip in find_clips([Path(film) for film in films])]
    if running.out is not None and len(paths) > 1:
        raise UsageError("--out names one folder and each film has its own; leave it out")
    questions, refused = [], []
    for path in paths:
        try:
            questions.append(find_question(replace(texts, sources=(str(path),)), wanted, running))
        except SourceError as failure:
            refused.append(str(failure))
    if refused:
        raise SourceError(_all_refused(refused, len(paths)))
    if dry_run:
        for question in questions:
            show_question(question)
        return
    results = [_asked(question, running, as_json=as_json) for question in questions]
    if len(results) > 1 and not as_json:
        show_catalogue(results)
    missed = [r for r in results if not r.is_met]
    if missed:
        raise TargetMissed(_why_missed(missed))


def _all_refused(sentences: list[str], num_films: int) -> str:
    """One message for every film that is refused, before any of them is measured."""
    if num_films == 1:
        return sentences[0]
    lines = "\n".join(f"- {sentence}" for sentence in sentences)
    return (
        f"{len(sentences)} of {num_films} films are refused; mend them, or leave them out:\n{lines}"
    )


def _asked(question: Question, running: Running, *, as_json: bool) -> FindResult:
    from vmaftune.asking.finding import ask

    with console.FindView(question.request.target, as_json=as_json) as view:
        result = ask(
            question,
            model_dir=running.model_dir,
            on_event=lambda event: view.feed(to_json(event)),
        )
    if not as_json:
        show_answer(result)
    return result


def show_question(question: Question) -> None:
    """What would be measured, for --dry-run."""
    sample, request = question.request.sample, question.request
    names = ", ".join(candidate.name for candidate in request.candidates)
    windows = "the whole film"
    if not sample.is_whole:
        each = sample.windows[0].expected_frames
        windows = f"up to {counted(len(sample.windows), 'window')} of {each} frames"
    console.out(f"{sample.film.path}: {counted(sample.num_frames, 'frame')}; {windows}")
    console.out(f"{names}: {_asked_for(request)}, {request.stop}")
    console.out(
        f"about {duration(question.expected_s())} on {counted(question.options.jobs, 'slot')}; the"
        f" probes go to {question.folder}"
    )


def _asked_for(request: FindRequest) -> str:
    """The target and the guards as words: `mean VMAF of 93`."""
    guards = "".join(f" with {goal}" for goal in request.guards)
    return f"{request.statistic} {label_of(request.metric)} of {request.target:g}{guards}"


def show_answer(result: FindResult) -> None:
    """The table of a film's answers, what they rest on, and the command for the whole film."""
    rows = [_row(result, found) for found in result.found]
    columns = ("encoder", "q", result.request.goal.what, "+-", "kbit/s", "size", "CPU", "windows")
    beside = [METRICS[name].label for name in _beside(result.request)]
    name = Path(result.film.path).name
    console.table(name, (*columns, "stop", *beside), rows, left=1)
    for found in result.found:
        for sentence in found.sentences:
            if found.probe is not None:
                console.say(sentence)
    command = result.command(result.best)
    if command is not None:
        console.out(command)
    console.next_command(f"vmaf-tune report {shlex.quote(str(result.folder))}")


def _beside(request: FindRequest) -> tuple[str, ...]:
    """The metrics that are shown beside the target's."""
    return tuple(name for name in request.measured if name != request.metric)


def _row(result: FindResult, found: Found) -> tuple[object, ...]:
    from vmaftune.questions.sample import Z95

    probe, size = found.probe, result.size_bytes(found)
    digits = 2 if result.request.metric == VMAF else METRICS[result.request.metric].digits
    return (
        found.candidate.name,
        None if found.quality is None else f"{found.quality:g}",
        None if found.score is None else f"{found.score:.{digits}f}",
        None if probe is None else f"{Z95 * probe.error:.{digits}f}",
        _rate(found),
        None if size is None else console.size(size),
        _cpu(result, found),
        probe.num_windows if probe else None,
        found.answer.stop if found.answer else "foretold",
        *(_mean(probe, name) for name in _beside(result.request)),
    )


def _rate(found: Found) -> str | None:
    """kbit/s; of a foretold answer with the interval that holds four of five."""
    if found.kbps is None:
        return None
    if found.kbps_interval is None:
        return f"{found.kbps:.0f}"
    low, high = found.kbps_interval
    return f"{found.kbps:.0f} ({low:.0f}–{high:.0f})"


def _cpu(result: FindResult, found: Found) -> str | None:
    """CPU seconds of encoding for a second of film; of a foretold answer what a table of costs
    expects.
    """
    from vmaftune.questions.find_request import cell_of

    probe, rate = found.probe, float(result.film.frame_rate)
    if probe is not None:
        return None if probe.cpu_s is None else f"{probe.cpu_s * rate / probe.num_frames:.2f}x"
    if found.quality is None:
        return None
    window = result.request.sample.windows[0]
    cell = cell_of(result.request, found.candidate, window, found.quality)
    return f"~{cell.expected_encode_s * rate / cell.num_frames:.2f}x"


def _mean(probe: Probe | None, name: str) -> str | None:
    value = probe.metrics.get(name) if probe is not None else None
    return None if value is None else f"{value:.{METRICS[name].digits}f}"


def show_catalogue(results: list[FindResult]) -> None:
    """All films in one table, and the one quality value that serves 90% of them."""
    goal = results[0].request.goal
    target = goal.limit
    console.table(
        f"{counted(len(results), 'film')} at {goal.what} {target:g}",
        ("film", "encoder", "quality", goal.what, "kbit/s"),
        [
            (
                Path(r.film.path).name,
                r.best.candidate.name,
                None if r.best.quality is None else f"{r.best.quality:g}",
                None if r.best.score is None else f"{r.best.score:.2f}",
                None if r.best.kbps is None else f"{r.best.kbps:.0f}",
            )
            for r in results
        ],
        left=2,
    )
    for name in dict.fromkeys(found.candidate.name for r in results for found in r.found):
        value = serves(results, name, 0.9)
        if value is not None:
            console.say(f"{name}: {value:g} meets {target:g} on 90% of the films")


def serves(results: list[FindResult], name: str, share: float) -> float | None:
    """The largest quality value that meets the target on `share` of the films with this encoder;
    None where too few do. A finer value than a film's answer meets it too.
    """
    answers = [
        found.quality
        for r in results
        for found in r.found
        if found.candidate.name == name and found.is_met and found.quality is not None
    ]
    need = -(-len(results) * share // 1)
    ordered = sorted(answers, reverse=True)
    return ordered[int(need) - 1] if 0 < need <= len(ordered) else None


def _why_missed(missed: list[FindResult]) -> str:
    result = missed[0]
    others = f" (and on {len(missed) - 1} more films)" if len(missed) > 1 else ""
    said = "; ".join(result.best.sentences)
    asked = _asked_for(result.request).replace(" of ", " ", 1)
    return f"{result.film.path}: {asked} is not met{others}: {said}"


def _count(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdigit() or int(text) < 1:
        raise UsageError(f"--samples takes auto or a number of windows, not {text!r}")
    return int(text)


def _seconds(text: str | None) -> float | None:
    """`10m` as 600. Raises UsageError."""
    if text is None:
        return None
    units = {"s": 1.0, "m": 60.0, "h": 3600.0}
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    try:
        found = float(number) * units[unit]
    except ValueError as failure:
        raise UsageError(f"--within takes a time such as 90s, 10m or 2h, not {text!r}") from failure
    if not 0 < found < float("inf"):
        raise UsageError(f"--within {text} is not a duration; write 10m, for example")
    return found


def _share(text: str | None) -> float | None:
    """`80%` as 0.8. Raises UsageError."""
    if text is None:
        return None
    try:
        found = float(text.removesuffix("%")) / 100
    except ValueError:
        found = 0.0
    if not text.endswith("%") or not 0 < found < float("inf"):
        raise UsageError(f"--max-size takes a share of the film's size such as 80%, not {text!r}")
    return found
