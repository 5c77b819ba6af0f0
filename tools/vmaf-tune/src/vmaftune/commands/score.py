"""`vmaf-tune score`: how good files are against their reference."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vmaftune import console
from vmaftune.cell import parse_size
from vmaftune.commands.options import (
    Allow,
    FfmpegPath,
    Metrics,
    RawFormat,
    RawRate,
    RawSize,
    RetryFailed,
    Timeout,
)
from vmaftune.commands.signals import interruptible
from vmaftune.engine.events import to_json
from vmaftune.errors import SweepFailed, TargetMissed, UsageError
from vmaftune.media.process import Runner
from vmaftune.metrics import METRICS, parse_metrics
from vmaftune.request.values import parse_sizes, words

if TYPE_CHECKING:
    from vmaftune.asking.running import Running
    from vmaftune.asking.scoring import ScoreJob
    from vmaftune.questions.score import Scored, ScoreRequest


def score(
    reference: Annotated[Path, typer.Argument(help="The reference.", metavar="REF")],
    distorted: Annotated[list[Path], typer.Argument(help="Files to score.", metavar="DIST...")],
    vmaf_model: Annotated[
        str,
        typer.Option(help="libvmaf model, or its JSON file; auto is the 4K one above 1440 lines."),
    ] = "auto",
    metrics: Metrics = None,
    neg: Annotated[
        bool, typer.Option("--neg", help="Score with the NEG model as well, beside it.")
    ] = False,
    offset: Annotated[
        str, typer.Option(help="Frames that the files lag behind the reference: auto, or 3, -2.")
    ] = "auto",
    display: Annotated[
        str | None,
        typer.Option(help="Size to score at: 1080, or 1920x1080. Default: the reference's."),
    ] = None,
    min_vmaf: Annotated[
        float | None, typer.Option(help="Exit with code 7 when a file is below this.")
    ] = None,
    stat: Annotated[
        str, typer.Option(help="What --min-vmaf holds for: mean, p1, worst-window, ...")
    ] = "mean",
    csv: Annotated[Path | None, typer.Option(help="Write the table as CSV.")] = None,
    frames: Annotated[
        Path | None, typer.Option(help="Write the score of every frame as parquet.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw quality over time, the worst frames marked.")
    ] = None,
    worst: Annotated[int, typer.Option(min=1, help="How many of the worst frames.")] = 5,
    png: Annotated[
        Path | None, typer.Option(help="Write the worst frames beside the reference's, here.")
    ] = None,
    size: RawSize = None,
    fps: RawRate = None,
    pix_fmt: RawFormat = None,
    allow: Allow = None,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder. Default: runs/score/<reference>.")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Cores to use. Default: all.")] = None,
    timeout: Timeout = None,
    retry_failed: RetryFailed = False,
    ffmpeg: FfmpegPath = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="NDJSON: each event, then each file's numbers.")
    ] = False,
) -> None:
    """Score files against their reference with VMAF. Frames are paired by their number.

    A constant offset of up to 2 seconds is found and reported; another size is scaled to the
    reference's. Exit code 7 when --min-vmaf is not met.

    Example: vmaf-tune score master.mov encode.mp4 --min-vmaf 93
    """
    from vmaftune.asking.running import Running
    from vmaftune.questions.score import SHOWN, ScoreRequest

    if stat not in SHOWN:
        raise UsageError(f"--stat {stat}: use one of {', '.join(SHOWN)}")
    sizes = parse_sizes(display, "--display")
    request = ScoreRequest(
        reference=reference,
        distorted=tuple(distorted),
        teacher=vmaf_model,
        offset=_offset(offset),
        display=sizes[0] if sizes else None,
        size=_size(size),
        fps=fps,
        pix_fmt=pix_fmt,
        allow=words(allow),
        metrics=parse_metrics(metrics),
    )
    runner = Runner(most_s=timeout, tell=console.say)
    running = Running(
        out=out,
        jobs=jobs,
        timeout_s=timeout,
        retry_failed=retry_failed,
        ffmpeg=ffmpeg,
        runner=runner,
    )
    with interruptible(runner):
        results, job = _measure(request, running, neg=neg, as_json=as_json)
        _show(results, as_json=as_json)
        _write(results, job, csv=csv, frames=frames, plot=plot, worst=worst, png=png)
    _judge(results, min_vmaf, stat)


def _measure(
    request: ScoreRequest, running: Running, *, neg: bool, as_json: bool
) -> tuple[tuple[Scored, ...], ScoreJob]:
    """The results of all models, and the first model's job."""
    from vmaftune.asking.scoring import score_files, score_jobs
    from vmaftune.engine.standing import expected_seconds, standing

    jobs = score_jobs(request, running, neg=neg)
    results: list[Scored] = []
    for job in jobs:
        left = standing(
            job.plan.pairs, job.folder, job.ffmpeg, retry_failed=job.options.retry_failed
        ).left
        costs = {pair.id: (pair.kind, expected_seconds([pair], 1)) for pair in left}
        with console.SweepView(costs, job.options.jobs, as_json=as_json) as view:
            results += score_files(job, lambda event: view.feed(to_json(event)))
    return tuple(results), jobs[0]


def _show(results: Sequence[Scored], *, as_json: bool) -> None:
    from vmaftune.questions.score import SHOWN

    if as_json:
        for one in results:
            console.json_line(as_dict(one))
        return
    models = {one.pair.teacher for one in results}
    is_more = len(models) > 1 or bool(results[0].pair.metrics)
    rows = []
    for one in results:
        statistics = one.statistics
        name = Path(one.pair.distorted.path).name
        label = [name, one.pair.teacher] if is_more else [name]
        numbers = [f"{statistics[key]:.2f}" if statistics else None for key in SHOWN]
        rows.append((*label, *numbers))
        rows += [_metric_row(one, metric) for metric in one.pair.metrics]
    title = f"{Path(results[0].pair.reference.path).name}, {', '.join(sorted(models))}"
    heads = ("worst s" if name == "worst-window" else name for name in SHOWN)
    names = ("file", "measured") if is_more else ("file",)
    console.table(title, (*names, *heads), rows, left=len(names))
    for one in results:
        for sentence in sentences(one):
            console.say(sentence)


def _metric_row(one: Scored, metric: str) -> tuple[str | None, ...]:
    """A further metric of a file as a row of the table; a dash for no error at all."""
    from vmaftune.questions.score import SHOWN

    kind, statistics = METRICS[metric], one.statistics_of(metric)
    numbers = []
    for name in SHOWN:
        value = statistics.get(name)
        numbers.append(None if value is None else f"{value:.{kind.digits}f}")
    return (Path(one.pair.distorted.path).name, kind.label, *numbers)


def sentences(one: Scored) -> list[str]:
    """What a reader of the numbers must know beside them."""
    name = one.pair.distorted.path
    if one.row.error is not None:
        return [f"{name} could not be scored: {one.row.error.message}"]
    rate = float(one.pair.reference.frame_rate)
    at = (one.pair.starts[0] + one.worst_second) / rate
    told = [f"{name}: {len(one.scores)} frames; the worst second begins at {at:.2f} s"]
    if one.pair.scale or one.pair.reference_scale:
        told.append(f"{name} was scored at {one.pair.size[0]}x{one.pair.size[1]} (bicubic)")
    said = {
        "suspect_alignment": "another offset of frames fits better: are the frames paired rightly?",
        "alignment_unverifiable": "the pictures move too little to tell whether frames are paired"
        " rightly",
        "possible_swap": "it shows more detail than the reference: are the two swapped?",
    }
    told += [f"{name}: {text}" for flag, text in said.items() if flag in one.row.flags]
    return told


def as_dict(one: Scored) -> dict[str, Any]:
    """A result as `--json` prints it; docs/events.md."""
    return {
        "event": "scored",
        "reference": one.pair.reference.path,
        "distorted": one.pair.distorted.path,
        "model": one.pair.teacher,
        "status": one.row.status,
        "offset": one.pair.offset,
        "size": list(one.pair.size),
        "num_frames": len(one.scores),
        "kbps": one.row.bitrate_kbps,
        "statistics": {name: round(value, 6) for name, value in one.statistics.items()},
        "metrics": {
            metric: {n: _rounded(v) for n, v in one.statistics_of(metric).items()}
            for metric in one.pair.metrics
        },
        "worst_frames": [one.pair.starts[0] + frame for frame in one.worst(5)],
        "flags": list(one.row.flags),
        "error": one.row.error.message if one.row.error else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _write(
    results: Sequence[Scored],
    job: ScoreJob,
    *,
    csv: Path | None,
    frames: Path | None,
    plot: Path | None,
    worst: int,
    png: Path | None,
) -> None:
    if csv is None and frames is None and plot is None and png is None:
        return
    from vmaftune.commands import score_files

    for place in (csv, frames, plot):
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
    written = [place for place in (csv, frames, plot) if place is not None]
    if csv is not None:
        score_files.write_csv(results, csv)
    if frames is not None:
        score_files.write_frames(results, frames)
    if plot is not None:
        score_files.plot(results, plot, worst)
    if png is not None:
        for one in results[: len(job.plan.pairs)]:
            written += score_files.write_worst(one, job.ffmpeg, png, worst)
    for place in written:
        console.say(f"wrote {place}")


def _judge(results: Sequence[Scored], min_vmaf: float | None, stat: str) -> None:
    """Raises SweepFailed for a pair without a score, TargetMissed for one below `min_vmaf`."""
    failed = [one for one in results if one.row.error is not None]
    if failed:
        why = failed[0].row.error
        assert why is not None
        raise SweepFailed(
            f"{len(failed)} of {len(results)} could not be scored:"
            f" {failed[0].pair.distorted.path}: {why.message}"
        )
    if min_vmaf is None:
        return
    below = [one for one in results if one.statistics[stat] < min_vmaf]
    if below:
        worst = min(below, key=lambda one: one.statistics[stat])
        raise TargetMissed(
            f"{worst.pair.distorted.path} has {stat} VMAF {worst.statistics[stat]:.2f}, below the"
            f" {min_vmaf:g} of --min-vmaf; {len(below)} of {len(results)} are below"
        )


def _offset(text: str) -> int | None:
    if text == "auto":
        return None
    with suppress(ValueError):
        return int(text)
    raise UsageError(f"--offset takes auto or a number of frames such as -2, not {text!r}")


def _size(text: str | None) -> tuple[int, int] | None:
    return parse_size(text, "--size") if text else None
