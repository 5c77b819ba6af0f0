"""`vmaf-tune encode`: the file that meets the target, with a score that was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vmaftune import console
from vmaftune.commands.options import (
    Allow,
    Cluster,
    Crop,
    Deinterlace,
    EncoderOptions,
    EncodeSize,
    FfmpegPath,
    Film,
    Insecure,
    Jobs,
    MaxQuality,
    MinQuality,
    PriorFolder,
    SampleSeconds,
    Stop,
    Teacher,
    Timeout,
    WithinPoints,
    Workers,
)
from vmaftune.commands.signals import interruptible
from vmaftune.costs import counted
from vmaftune.engine.events import MadeEvent, to_json
from vmaftune.engine.target import check_target
from vmaftune.errors import FolderError, TargetMissed, UsageError
from vmaftune.media.process import Runner
from vmaftune.request.flags import Texts

if TYPE_CHECKING:
    from vmaftune.questions.film import Made


def encode(
    film: Film,
    out: Annotated[str, typer.Option("--out", "-o", help="The file to make: .mkv, .mp4 or .webm.")],
    encoder: Annotated[str, typer.Option(help="The encoder.")] = "x264",
    preset: Annotated[str | None, typer.Option(help="Its preset. Default: the middle one.")] = None,
    target: Annotated[float, typer.Option(help="VMAF to meet.")] = 93.0,
    quality: Annotated[
        float | None, typer.Option(help="Take this quality value instead of a search.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="One encode of the film (the default).")
    ] = False,
    shots: Annotated[
        bool, typer.Option("--shots", help="Encode shot by shot, each at its own value.")
    ] = False,
    stat: Annotated[
        str | None,
        typer.Option(
            help=(
                "What must meet the target. With --shots the mean of each shot does, and mean holds"
                " it over the film."
            )
        ),
    ] = None,
    stop: Stop = "confident",
    verify: Annotated[
        str, typer.Option(help="Score windows of the result, or all of it: windows, full.")
    ] = "windows",
    min_quality: MinQuality = None,
    max_quality: MaxQuality = None,
    sample_seconds: SampleSeconds = 2.0,
    within_points: WithinPoints = 0.5,
    options: EncoderOptions = None,
    size: EncodeSize = None,
    crop: Crop = None,
    scale: Annotated[
        str | None, typer.Option(help="Size of the film to make: 640x360, 640x-1, 360p.")
    ] = None,
    allow: Allow = None,
    deinterlace: Deinterlace = False,
    no_audio: Annotated[bool, typer.Option("--no-audio", help="Leave out the sound.")] = False,
    no_subtitles: Annotated[
        bool, typer.Option("--no-subtitles", help="Leave out subtitles.")
    ] = False,
    no_attachments: Annotated[
        bool, typer.Option("--no-attachments", help="Leave out attachments.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that exists.")] = False,
    vmaf_model: Teacher = None,
    run_dir: Annotated[
        Path | None, typer.Option(help="Where probes are kept. Default: runs/find/<film>.")
    ] = None,
    jobs: Jobs = None,
    cluster: Cluster = None,
    workers: Workers = None,
    insecure: Insecure = False,
    timeout: Timeout = None,
    model_dir: PriorFolder = None,
    ffmpeg: FfmpegPath = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events as NDJSON; the last is the file.")
    ] = False,
) -> None:
    """Encode a film so that it meets a VMAF target. The result is measured.

    Sound, subtitles, chapters and tags are copied. The same command goes on where a killed one
    ended. Exit code 7 when the file does not meet the target; it is kept all the same.

    Example: vmaf-tune encode film.mkv -o out.mkv --encoder svtav1 --preset 5 --target 93
    """
    from vmaftune.asking.encoding import EncodeJob, Keep, encode_question, make_film
    from vmaftune.asking.finding import Wanted
    from vmaftune.asking.running import Running

    if whole and shots:
        raise UsageError("--whole and --shots are two ways of one encode; give one of the two")
    runner = Runner(most_s=timeout, tell=console.say)
    job = EncodeJob(
        out=Path(out),
        quality=quality,
        way="shots" if shots else "whole",
        over_film=shots and stat == "mean",
        verify=verify,
        keep=Keep(audio=not no_audio, subtitles=not no_subtitles, attachments=not no_attachments),
        force=force,
    )
    wanted = Wanted(
        target=target,
        statistic=stat or "mean",
        stop=stop,
        sample_seconds=sample_seconds,
        within_points=within_points,
        min_quality=min_quality,
        max_quality=max_quality,
        size=size,
    )
    running = Running(
        out=run_dir,
        jobs=jobs,
        timeout_s=timeout,
        ffmpeg=ffmpeg,
        model_dir=model_dir,
        runner=runner,
        target=check_target(cluster, workers, insecure=insecure),
    )
    texts = Texts(
        sources=(film,),
        encoders=encoder,
        presets=preset,
        options=options,
        crop=crop,
        scale=scale,
        allow=allow,
        deinterlace=deinterlace,
        vmaf_model=vmaf_model,
    )
    with interruptible(runner), _own_flags():
        question, request = encode_question(texts, job, wanted, running)
        with console.FindView(target, as_json=as_json) as view:
            made = make_film(
                question,
                request,
                model_dir=model_dir,
                on_event=lambda event: view.feed(to_json(event)),
            )
            view.feed(to_json(made_event(made)))
    if not as_json:
        show(made)
    if not made.is_met:
        raise TargetMissed(
            f"{made.out} has {wanted.statistic} VMAF {made.score:.2f} and {target:g} was asked for;"
            " it is the best of what was tried"
        )


@contextmanager
def _own_flags() -> Iterator[None]:
    """What is said of the run folder names the flag that it has here: --out is the file."""
    try:
        yield
    except FolderError as failure:
        raise FolderError(str(failure).replace("--out", "--run-dir")) from failure


def made_event(made: Made) -> MadeEvent:
    """The finished file as an event."""
    return MadeEvent(
        out=str(made.out),
        size_bytes=made.size_bytes,
        num_frames=made.num_frames,
        score=round(made.score, 4),
        standard_error=round(made.error, 4),
        is_met=made.is_met,
        num_encodes=made.num_encodes,
        num_shots=len(made.shots),
        attempts=[(a.quality, a.foretold, a.measured) for a in made.attempts],
    )


def show(made: Made) -> None:
    """What was made, and from what."""
    if made.attempts:
        console.table(
            "Foretold from windows, and measured in the encode",
            ("quality", "foretold", "measured", "+-", "size"),
            [
                (f"{a.quality:g}", a.foretold, a.measured, a.error, console.size(a.size_bytes))
                for a in made.attempts
            ],
        )
    if made.shots:
        console.table(
            "Shots",
            ("first frame", "frames", "quality", "VMAF", "size", "encodes"),
            [
                (
                    s.start,
                    s.num_frames,
                    f"{s.quality:g}",
                    s.score,
                    console.size(s.size_bytes),
                    s.num_encodes,
                )
                for s in made.shots
            ],
        )
    how = f"+-{made.error:.2f}" if made.error else "all frames scored"
    console.out(
        f"{made.out}: VMAF {made.score:.2f} ({how}), {console.size(made.size_bytes)},"
        f" {counted(made.num_frames, 'frame')}, {counted(made.num_encodes, 'encode')}"
    )
