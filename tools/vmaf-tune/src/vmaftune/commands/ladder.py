"""`vmaf-tune ladder`: a bitrate ladder for a film, every rung measured as it ships."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    FfmpegPath,
    Film,
    Insecure,
    Jobs,
    Metrics,
    OneEncoder,
    Presets,
    PriorFolder,
    RetryFailed,
    SampleSeconds,
    Teacher,
    Timeout,
    Workers,
)
from vmaftune.commands.signals import interruptible
from vmaftune.costs import counted
from vmaftune.engine.events import LaddersEvent, to_json
from vmaftune.engine.target import check_target
from vmaftune.errors import TargetMissed, ToolError, UsageError
from vmaftune.media.process import Runner
from vmaftune.metrics import METRICS
from vmaftune.request.flags import Texts

if TYPE_CHECKING:
    from vmaftune.asking.laddered import LadderResult
    from vmaftune.asking.laddering import LadderQuestion
    from vmaftune.questions.ladder_values import LadderFiles, Rung


_PICTURES = (".png", ".svg", ".pdf", ".jpg", ".webp")


def ladder(
    film: Film,
    encoder: OneEncoder = None,
    encoders: Annotated[
        str | None, typer.Option(help="Several encoders, a ladder each, compared: x264,svtav1.")
    ] = None,
    preset: Presets = None,
    sizes: Annotated[
        str | None,
        typer.Option(help="Sizes of encodes: 1080,720,540. Default: the film's and three below."),
    ] = None,
    display: Annotated[
        str | None, typer.Option(help="Size to score at: 1080p. Default: the film's.")
    ] = None,
    top: Annotated[float, typer.Option(help="VMAF of the top rung.")] = 95.0,
    bottom: Annotated[float, typer.Option(help="VMAF below which there is no rung.")] = 50.0,
    step: Annotated[
        float, typer.Option(help="VMAF between rungs; 6 is one just noticeable difference.")
    ] = 6.0,
    rungs: Annotated[
        int | None, typer.Option(help="How many rungs; they take the place of --step.")
    ] = None,
    min_kbps: Annotated[float, typer.Option(help="The least kbit/s of a rung.")] = 0.0,
    max_kbps: Annotated[float | None, typer.Option(help="The most kbit/s of a rung.")] = None,
    stat: Annotated[
        str, typer.Option(help="What VMAF stands for: mean, harmonic, p10, p5, p1, min.")
    ] = "mean",
    samples: Annotated[int, typer.Option(min=1, help="Windows of the film to measure.")] = 8,
    sample_seconds: SampleSeconds = 2.0,
    template: Annotated[
        str | None,
        typer.Option(help="Compare with a fixed ladder: apple, or a TOML file.", metavar="NAME"),
    ] = None,
    gop: Annotated[float, typer.Option(help="Seconds from keyframe to keyframe.")] = 2.0,
    encode: Annotated[
        Path | None,
        typer.Option(
            help="Make the rungs of the whole film in this folder, with its sound and playlists.",
            metavar="DIR",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a ladder in that folder.")
    ] = False,
    shots: Annotated[
        bool,
        typer.Option("--shots", help="Encode each rung shot by shot, each at a value of its own."),
    ] = False,
    half_rate: Annotated[
        int | None,
        typer.Option(
            help="Sizes of this many lines or fewer get every second frame of a film of 48 fps or"
            " more.",
            metavar="LINES",
        ),
    ] = None,
    options: EncoderOptions = None,
    crop: Crop = None,
    allow: Allow = None,
    deinterlace: Deinterlace = False,
    vmaf_model: Teacher = None,
    metrics: Metrics = None,
    plot: Annotated[Path | None, typer.Option(help="Draw hull and rungs into this file.")] = None,
    out: Annotated[
        str | None,
        typer.Option(help="The run's folder. Default: that of `find`.", metavar="PATH"),
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
        bool, typer.Option("--json", help="NDJSON: each encode, then the ladder.")
    ] = False,
) -> None:
    """Make a bitrate ladder for a film, every rung measured. Sizes are scored at the film's own.

    Every encode is kept: another ladder of the film costs only what is new. With --encode the rungs
    of the whole film are made, scored inside their files, and the same command goes on where a
    killed one ended. Exit code 7 when no rung meets the limits.

    Example: vmaf-tune ladder film.mkv --encoder x264 --preset slow --sizes 1080,720,540,360
    """
    from vmaftune.asking.laddering import LadderWanted, ladder_questions
    from vmaftune.asking.running import Running

    if encoder and encoders:
        raise UsageError("--encoder names one and --encoders several; give one of the two")
    check_picture(plot)
    runner = Runner(most_s=timeout, tell=console.say)
    wanted = LadderWanted(
        sizes=sizes,
        top=top,
        bottom=bottom,
        step=step,
        num_rungs=rungs,
        min_kbps=min_kbps,
        max_kbps=math.inf if max_kbps is None else max_kbps,
        statistic=stat,
        samples=samples,
        sample_seconds=sample_seconds,
        template=template,
        gop_s=gop,
        encode=encode,
        force=force,
        shots=shots,
        half_rate=half_rate,
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
        sources=(film,),
        encoders=next((named for named in (encoder, encoders) if named is not None), "x264"),
        presets=preset,
        options=options,
        crop=crop,
        scale=display,
        allow=allow,
        deinterlace=deinterlace,
        vmaf_model=vmaf_model,
        metrics=metrics,
        out=out,
    )
    with interruptible(runner):
        questions = ladder_questions(texts, wanted, running)
        if dry_run:
            for question in questions:
                show_question(question)
            return
        results = [_asked(question, model_dir, as_json=as_json) for question in questions]
        if len(results) > 1:
            _tell_encoders(results, as_json=as_json)
    for result in results:
        if plot is not None:
            draw(result, _own(plot, result, len(results)))
    missed = [result for result in results if not result.rungs]
    if missed:
        raise TargetMissed(f"{film}: {'; '.join(missed[0].sentences)}")


def _asked(question: LadderQuestion, model_dir: Path | None, *, as_json: bool) -> LadderResult:
    """One encoder's ladder, measured and shown."""
    from vmaftune.asking.laddering import make_ladder

    request = question.request
    expected = 5 * len(request.sizes) + 7
    with console.FindView(request.top, as_json=as_json, expected=expected) as view:
        result = make_ladder(
            question, model_dir=model_dir, on_event=lambda event: view.feed(to_json(event))
        )
    if not as_json:
        show_ladder(result)
    return result


def _tell_encoders(results: Sequence[LadderResult], *, as_json: bool) -> None:
    from vmaftune.asking.laddered import ladders_event

    told = ladders_event(results)
    if as_json:
        console.json_line(to_json(told))
    else:
        show_encoders(told)


def _own(place: Path, result: LadderResult, count: int) -> Path:
    """The picture's file; each encoder's own where there are several."""
    if count == 1:
        return place
    name = f"{place.stem}_{result.request.encoder.name}_{result.request.preset}{place.suffix}"
    return place.with_name(name)


def show_encoders(told: LaddersEvent) -> None:
    """BD-rates between all hulls, and who is on the joint hull."""
    names = [f"{one.encoder} {one.preset}" for one in told.encoders]
    rows = [
        (name, *map(_percent, one.bd_rates), one.num_joint)
        for name, one in zip(names, told.encoders, strict=True)
    ]
    columns = ("encoder", *(f"vs {name}" for name in names), "joint")
    caption = "BD-rate: bits at equal VMAF, below zero are fewer; joint: points on the joint hull."
    console.table("hulls of all encoders", columns, rows, caption=caption)


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{share:+.1%}"


def show_question(question: LadderQuestion) -> None:
    """What would be measured, for --dry-run."""
    request = question.request
    film = request.sample.film
    sizes = ", ".join(f"{width}x{height}" for width, height in request.sizes)
    windows = request.sample.windows[: request.num_windows]
    console.out(
        f"{film.path}: {counted(len(windows), 'window')} of {windows[0].expected_frames} frames,"
        f" scored at {film.width}x{film.height}"
    )
    console.out(f"{request.encoder.name} {request.preset} at {sizes}")
    most = 5 * len(request.sizes)
    console.out(f"at most {most} encodes for the hull, then the rungs; in {question.folder}")
    for notice in question.notices:
        console.warn(notice)


def show_ladder(result: LadderResult) -> None:
    """The rungs, what they rest on, and what to type and to serve."""
    from vmaftune.asking.laddered import crossovers
    from vmaftune.questions.sample import Z95

    request = result.request
    rows = [
        (
            f"{rung.size[0]}x{rung.size[1]}",
            f"{rung.setting.quality:g}",
            f"{rung.score:.2f}",
            f"{Z95 * rung.error:.2f}",
            f"{rung.kbps:.0f}",
            rung.setting.maxrate_kbps,
            *(_beside(rung, name) for name in request.metrics),
        )
        for rung in result.rungs
    ]
    title = f"{Path(request.sample.film.path).name}, {request.encoder.name} {request.preset}"
    beside = [METRICS[name].label for name in request.metrics]
    console.table(title, ("size", "q", "VMAF", "+-", "kbit/s", "bound", *beside), rows)
    more = result.num_fixed_encodes
    fixed = f", {more} for the fixed ladder" if more else ""
    console.say(
        f"{len(result.points)} encodes of the windows for the hull, {result.num_rung_encodes} for"
        f" the rungs{fixed}; scored at {request.display[0]}x{request.display[1]}"
    )
    for sentence in (*result.sentences, *crossovers(result)):
        console.say(sentence)
    if result.against:
        show_against(result)
    if result.files is not None:
        show_files(result.files)
        return
    for rung in result.rungs:
        console.out(result.command(rung))
    for rung in result.rungs:
        console.out(result.playlist(rung))


def _beside(rung: Rung, name: str) -> str | None:
    """A rung's mean of a metric beside VMAF."""
    value = rung.metrics.get(name)
    return None if value is None else f"{value:.{METRICS[name].digits}f}"


def show_files(made: LadderFiles) -> None:
    """The rungs of the whole film, as they were measured inside their files."""
    rows = [
        (
            file.path.name,
            f"{file.score:.2f}",
            f"{file.rung.score:.2f}",
            f"{file.kbps:.0f}",
            f"{file.rate.peak / 1000:.0f}",
            console.size(file.size_bytes),
        )
        for file in made.files
    ]
    columns = ("file", "VMAF", "windows", "kbit/s", "peak", "size")
    console.table("the whole film", columns, rows, left=1)
    for sentence in made.sentences:
        console.say(sentence)
    console.out(str(made.playlist))


def show_against(result: LadderResult) -> None:
    """The fixed ladder's rungs, what the film's hull needs for their scores, and the sum of it."""
    from vmaftune.asking.laddered import gains

    rows = [
        (
            f"{one.fixed.size[0]}x{one.fixed.size[1]}",
            f"{one.fixed.kbps:.0f}",
            f"{one.fixed.score:.2f}",
            None if one.kbps is None else f"{one.kbps:.0f}",
            None if one.saved is None else f"{one.saved:+.0%}",
        )
        for one in result.against
    ]
    columns = ("fixed rung", "kbit/s", "VMAF", "hull kbit/s", "saved")
    console.table("at equal VMAF", columns, rows)
    for sentence in gains(result):
        console.say(sentence)


def check_picture(place: Path | None) -> None:
    """Raise UsageError for a picture of an unknown kind, before hours of work."""
    if place is not None and place.suffix.lower() not in _PICTURES:
        known = ", ".join(_PICTURES)
        raise UsageError(f"--plot {place}: the picture's name must end in one of {known}")


def draw(result: LadderResult, place: Path) -> None:
    """Hull, encodes of every size and rungs as a picture. Raises ToolError without matplotlib."""
    from vmaftune.asking.laddered import ladder_event
    from vmaftune.report.ladder_figure import write_picture

    try:
        import matplotlib

        matplotlib.use("Agg")
        write_picture(ladder_event(result), place)
    except ModuleNotFoundError as failure:
        raise ToolError(
            "--plot needs matplotlib; install it with: pip install 'vmaf-tune[report]'"
        ) from failure
    except (OSError, ValueError) as failure:
        raise ToolError(f"--plot {place} cannot be written: {failure}") from failure
