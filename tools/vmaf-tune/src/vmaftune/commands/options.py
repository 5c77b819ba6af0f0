"""The options that several commands share, one type each: a command writes `crop: Crop = None`.

A type holds the words and the limits of an option; its default is the command's own. An option
that says something else in one command is written out there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

# What is measured.
Film = Annotated[str, typer.Argument(help="The film.")]
OneEncoder = Annotated[str | None, typer.Option("--encoder", help="The encoder. Default: x264.")]
Presets = Annotated[
    str | None, typer.Option(help="The preset, or one for each encoder: x264=slow;svtav1=5.")
]
EncoderOptions = Annotated[
    str | None, typer.Option(help="Further encoder options: x264=-tune film.")
]
EncodeSize = Annotated[
    str | None, typer.Option(help="Encode at this size, scored at the film's: 720p.")
]
Crop = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT+LEFT+TOP, cut before scaling.")]
Scale = Annotated[
    str | None, typer.Option(help="Size of the reference (bicubic): 640x360, 640x-1 or 360p.")
]
RawSize = Annotated[str | None, typer.Option(help="WIDTHxHEIGHT of raw .yuv files.")]
RawRate = Annotated[
    str | None, typer.Option(help="Frame rate of raw .yuv files, such as 24000/1001.")
]
RawFormat = Annotated[
    str | None, typer.Option(help="Pixel format of raw .yuv files. Default: yuv420p.")
]
Allow = Annotated[
    str | None, typer.Option(help="Accept what is otherwise refused: vfr,interlaced,hdr.")
]
Deinterlace = Annotated[
    bool, typer.Option("--deinterlace", help="Convert interlaced video (bwdif).")
]
Teacher = Annotated[
    str | None, typer.Option(help="The libvmaf model to score with. Default: vmaf_v0.6.1.")
]
Metrics = Annotated[
    str | None,
    typer.Option(
        help="Measure these beside VMAF: neg,xpsnr,psnr,ssim,ms_ssim,cambi,ciede2000.",
        metavar="NAMES",
    ),
]

# What a search looks for.
Stop = Annotated[
    str, typer.Option(help="When to stop: confident, proven, or tolerance=0.5 (VMAF points).")
]
MinQuality = Annotated[float | None, typer.Option(help="Smallest quality value to use.")]
MaxQuality = Annotated[float | None, typer.Option(help="Largest quality value to use.")]
SampleSeconds = Annotated[float, typer.Option(help="Length of each window.")]
WithinPoints = Annotated[
    float, typer.Option(help="Add windows until the standard error is this, VMAF points.")
]

# How it runs.
Jobs = Annotated[int | None, typer.Option(min=1, help="Cells at a time.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        help="Measure on a Dask cluster: tls://HOST:8786, a scheduler's file, or local.",
        metavar="ADDRESS",
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(min=1, max=256, help="With --cluster local: the number of worker processes."),
]
Insecure = Annotated[
    bool,
    typer.Option("--insecure", help="Accept a cluster that is not encrypted (docs/cluster.md)."),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        min=1,
        help="Seconds after which a process counts as stalled. Default: estimated from its work.",
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Measure again what failed.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be measured, and exit.")]
FfmpegPath = Annotated[
    str | None,
    typer.Option(help="The ffmpeg to use. Default: VMAF_TUNE_FFMPEG, else the embedded one."),
]

# Where models are, and what is printed.
PriorFolder = Annotated[
    Path | None, typer.Option(help="Where the prior is. Default: the shipped one.")
]
ModelFolder = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds tiny/registry.json. Default: VMAF_TUNE_MODELS, else model/ of the"
        " checkout here, else the models that came with the program."
    ),
]
JsonDocument = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
