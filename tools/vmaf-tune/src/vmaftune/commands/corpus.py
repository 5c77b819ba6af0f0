"""`vmaf-tune corpus`: sweep encoders over sources, score every encode, keep the rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vmaftune import console
from vmaftune.commands.options import (
    Allow,
    Cluster,
    Crop,
    Deinterlace,
    DryRun,
    FfmpegPath,
    Insecure,
    Metrics,
    RawFormat,
    RawRate,
    RawSize,
    RetryFailed,
    Scale,
    Teacher,
    Timeout,
    Workers,
)
from vmaftune.commands.signals import interruptible
from vmaftune.errors import UsageError
from vmaftune.media.process import Runner
from vmaftune.request.flags import Texts, parse_flags, parse_run_flags, request_from
from vmaftune.request.values import parse_bytes


def corpus(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Files or folders of clips. Default: sources/", show_default=False),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option(
            help="Names, aliases or groups: x264,svtav1,nvenc,software,auto. Default: software."
        ),
    ] = None,
    presets: Annotated[
        str | None, typer.Option(help='fast,slow for every encoder, or "x264=fast;svtav1=10,5".')
    ] = None,
    quality: Annotated[
        str | None,
        typer.Option(help='19,25 or 19:37:6 for every encoder, or "x264=20:44:6;svtav1=20,35".'),
    ] = None,
    options: Annotated[
        str | None,
        typer.Option(
            help='Option sets of an encoder, each a cell of its own: "x264=-tune film|-tune grain".'
        ),
    ] = None,
    sizes: Annotated[
        str | None,
        typer.Option(
            help="Sizes of the encodes: heights or WIDTHxHEIGHT, 1080,720,540. Default: the"
            " source's."
        ),
    ] = None,
    maxrate: Annotated[
        str | None,
        typer.Option(help="Bound the bitrate (x264, x265, svtav1): kbit/s, or 2M."),
    ] = None,
    bufsize: Annotated[
        str | None, typer.Option(help="The buffer of --maxrate, in kbit. Default: twice --maxrate.")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="A first look: two encoders, five values, 2 seconds of each clip."
        ),
    ] = False,
    sweep: Annotated[
        str | None,
        typer.Option(
            help="Read sources and grid from a TOML file; flags win over it.", metavar="PATH"
        ),
    ] = None,
    select: Annotated[
        list[str] | None, typer.Option(help="Keep cells whose id matches this glob; repeatable.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(help="Where the window begins: seconds, or 00:12:30.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(help="Length of the window, in frames. Default: to the end.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Take this many windows, spread evenly over each clip.")
    ] = None,
    sample_seconds: Annotated[
        str | None, typer.Option(help="Length of each of the --samples. Default: 4.")
    ] = None,
    chunk: Annotated[
        str | None, typer.Option(help="Cut all of each clip into windows of this many seconds.")
    ] = None,
    crop: Crop = None,
    scale: Scale = None,
    size: RawSize = None,
    fps: RawRate = None,
    pix_fmt: RawFormat = None,
    allow: Allow = None,
    deinterlace: Deinterlace = False,
    pairs: Annotated[
        Path | None,
        typer.Option(
            help="Score encodes that exist: a folder with ref/ and dis/, or a CSV file.",
            metavar="PATH",
        ),
    ] = None,
    rescore: Annotated[
        Path | None,
        typer.Option(
            help="Score the kept encodes of a run again, with --vmaf-model or --metrics.",
            metavar="FOLDER",
        ),
    ] = None,
    features: Annotated[
        str,
        typer.Option(
            help="With --pairs: six per frame, or libvmaf's full set too.", metavar="six|full"
        ),
    ] = "six",
    # a text, because an empty path would be the folder we are in; so are the sources
    out: Annotated[
        str | None,
        typer.Option(
            help="The run's folder. Default: runs/phase_a/<name of the sweep>.", metavar="PATH"
        ),
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Add these cells to the plan that the folder holds.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(min=1, help="Cells at a time. Default: cores / threads per encode."),
    ] = None,
    threads_per_encode: Annotated[
        int | None,
        typer.Option(min=1, help="Threads of every encode, part of the cell. Default: 1."),
    ] = None,
    vmaf_model: Teacher = None,
    metrics: Metrics = None,
    keep_encodes: Annotated[
        bool, typer.Option("--keep-encodes", help="Keep every encode in encodes/.")
    ] = False,
    timeout: Timeout = None,
    scratch_budget: Annotated[
        str | None,
        typer.Option(
            help="Disk that prepared references may take at a time. Default: 8GiB.", metavar="SIZE"
        ),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option(
            help="GPUs for hardware encoders: 0,1 as nvidia-smi counts, or /dev/dri/renderD129."
        ),
    ] = None,
    scorer: Annotated[
        str,
        typer.Option(
            help=(
                "Where to score: auto, cpu, or cuda (an ffmpeg with libvmaf_cuda, checked against"
                " the CPU)."
            )
        ),
    ] = "auto",
    cluster: Cluster = None,
    workers: Workers = None,
    insecure: Insecure = False,
    shard: Annotated[
        str | None,
        typer.Option(
            help="Do one part of the sweep, by source: 3/8. `vmaf-tune merge` joins the parts.",
            metavar="NUMBER/COUNT",
        ),
    ] = None,
    skip_unusable: Annotated[
        bool,
        typer.Option(
            "--skip-unusable",
            help="Leave out named encoders that cannot run here, instead of exit 3.",
        ),
    ] = False,
    skip_unfit: Annotated[
        bool, typer.Option("--skip-unfit", help="Leave out clips that are refused.")
    ] = False,
    retry_failed: RetryFailed = False,
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Compare every row of the folder with its frames, also what was checked before.",
        ),
    ] = False,
    dry_run: DryRun = False,
    ffmpeg: FfmpegPath = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Events as NDJSON on stdout (docs/events.md).")
    ] = False,
) -> None:
    """Encode and score every cell of a grid, a row per cell. The grid is sources x encoders x
    presets x quality values.

    The same command goes on where a stopped one ended; nothing that is finished is done twice.

    Example: vmaf-tune corpus clips/ --encoders x264,svtav1 --quality "x264=20:44:6;svtav1=20,35,50"
    --frames 100
    """
    words_of_run = parse_run_flags(
        select=select or [], features=features, gpu=gpu, scorer=scorer, pairs=pairs is not None
    )
    run = replace(
        words_of_run,
        extend=extend,
        jobs=jobs,
        keep_encodes=keep_encodes,
        timeout=timeout,
        scratch_budget=parse_bytes(scratch_budget, "--scratch-budget") if scratch_budget else None,
        cluster=cluster,
        workers=workers,
        insecure=insecure,
        shard=shard,
        skip_unusable=skip_unusable,
        retry_failed=retry_failed,
        verify=verify,
        dry_run=dry_run,
        ffmpeg=ffmpeg,
        as_json=as_json,
    )
    flags = parse_flags(
        Texts(
            sources=sources or (),
            sweep=sweep,
            encoders=encoders,
            presets=presets,
            quality=quality,
            options=options,
            sizes=sizes,
            maxrate=maxrate,
            bufsize=bufsize,
            start=start,
            frames=frames,
            samples=samples,
            sample_seconds=sample_seconds,
            chunk=chunk,
            crop=crop,
            scale=scale,
            size=size,
            fps=fps,
            pix_fmt=pix_fmt,
            allow=allow,
            deinterlace=deinterlace,
            threads_per_encode=threads_per_encode,
            vmaf_model=vmaf_model,
            metrics=metrics,
            out=out,
            quick=quick,
            skip_unfit=skip_unfit,
        )
    )
    # Half of what this command imports, and its help needs none of it.
    from vmaftune.commands.sweep import run_rescore, run_sweep

    runner = Runner(most_s=timeout, tell=console.say)
    if rescore is not None:
        if pairs is not None:
            raise UsageError("--rescore scores a run's own encodes; it does not go with --pairs")
        with interruptible(runner):
            return run_rescore(rescore, flags, runner, run)
    if pairs is not None:
        from vmaftune.commands.pairs import score_pairs

        with interruptible(runner):
            return score_pairs(pairs, runner, flags, run)
    with interruptible(runner):
        run_sweep(request_from(flags), runner, run)
