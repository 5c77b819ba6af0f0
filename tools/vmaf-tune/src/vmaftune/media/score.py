"""Score a distorted clip against its reference with libvmaf: argument builder, parsers, and the
counts that must agree.

Frames are paired by index, never by timestamp: both inputs get the same made-up stamps, and
reference frames = distorted frames = frames in the log is required afterwards.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.cell import Cell, Color, Window, scoring_format
from vmaftune.media.encode import (
    COMMON,
    FILTER_THREADS,
    ONLY_FILES,
    TO_NOWHERE,
    check,
    fill,
    reference_input,
)
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.further import (
    XPSNR_LOG,
    FurtherRow,
    extractors,
    parse_further,
    xpsnr_text,
)
from vmaftune.media.graphs import Graph, Stream, both, chain, compiled, part, source
from vmaftune.media.libvmaf_log import LOG, Frame, log_text, parse_log, read_log
from vmaftune.media.process import Finished
from vmaftune.metrics import neg_of

_INPUT = re.compile(
    r"Input stream #(\d+):\d+ \(video\): (\d+) packets read \((\d+) bytes\); (\d+) frames decoded;"
    r" (\d+) decode errors"
)
_GRAPH = re.compile(r"input from stream (\d+):\d+ @ [^\]]+\] w:(\d+) h:(\d+) pixfmt:(\S+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What ffmpeg read of one input: size in pixels, pixel format, packets, their bytes, frames,
    decode errors.
    """

    width: int
    height: int
    pix_fmt: str
    num_packets: int
    num_bytes: int
    num_frames: int
    num_errors: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A finished scoring: per-frame rows, what was decoded of the distorted file, CPU seconds, and
    libvmaf's version.

    `scorer` is `cpu` or `cuda`; `difference` is the largest one, in VMAF points, between the two on
    the source's first frames, None where they were not compared. `further` are the columns of the
    cell's other metrics, per frame; empty where none were asked for.
    """

    frames: tuple[Frame, ...]
    distorted: Decoded
    cpu_s: float | None
    libvmaf_version: str
    scorer: str = "cpu"
    difference: float | None = None
    further: tuple[FurtherRow, ...] = ()


def libvmaf_filter(
    model: str, num_threads: int = 0, extra_features: Sequence[str] = (), neg: str | None = None
) -> str:
    """The libvmaf filter: a model (`version=NAME` or `path=FILE`) clipped and unclipped in one
    pass, the NEG model that is named, and the six features asked for by name.
    """
    models = rf"{model}\:name=vmaf|{model}\:name=vmaf_unclipped\:disable_clip=true"
    if neg is not None:
        models += rf"|version={neg}\:name=neg"
    extra_features = [name.replace(":", r"\:") for name in extra_features]
    features = "|".join(f"name={name}" for name in ("adm", "vif", "motion", *extra_features))
    threads = f":n_threads={num_threads}" if num_threads > 1 else ""
    return (
        f"libvmaf=model='{models}':feature='{features}':log_fmt=json:log_path={LOG}{threads}"
        ":shortest=1:repeatlast=0"
    )


def pads(
    pix_fmt: str,
    color: Color,
    *,
    scale: tuple[int, int] | None = None,
    reference_scale: tuple[int, int] | None = None,
    trims: tuple[str, str] = ("", ""),
    distorted: str = "0:v:0",
    reference: str = "1:v:0",
) -> str:
    """The two inputs as the links `distorted` and `reference`: stamped by frame index, in one
    format.

    `scale` resizes the distorted one (bicubic), `reference_scale` the reference. `trims` are
    filters that come first in either. `distorted` and `reference` name the streams.
    """
    stamp = f"settb=AVTB,setpts=N*40000,{color.filter()}"
    ends = f"format={pix_fmt}"
    first = f"[{distorted}]{trims[0]}{stamp},{_resized(scale)}{ends}[distorted]"
    return f"{first};[{reference}]{trims[1]}{stamp},{_resized(reference_scale)}{ends}[reference]"


def _resized(size: tuple[int, int] | None) -> str:
    return f"scale={size[0]}:{size[1]}:flags=bicubic," if size else ""


def score_graph(cell: Cell, num_frames: int | None = None) -> Graph:
    """The filter graph of one scoring, distorted first, both stamped by frame index and in one
    format; an encode of another size is scaled (bicubic) to the window's.

    `num_frames` cuts both to their first frames.
    """
    window = cell.window
    size = (window.width, window.height) if cell.setting.size else None
    pix_fmt = _scored_format(cell)
    return _score_graph(pix_fmt, window.color, size, cell.teacher, cell.metrics, num_frames)


@lru_cache(maxsize=256)  # the cells of a window share it, and compiling it takes milliseconds
def _score_graph(
    pix_fmt: str,
    color: Color,
    size: tuple[int, int] | None,
    teacher: str,
    metrics: tuple[str, ...],
    num_frames: int | None,
) -> Graph:
    stamp = [part("settb", "AVTB"), part("setpts", "N*40000")]
    if num_frames is not None:
        stamp.insert(0, part("trim", end_frame=num_frames))
    tags = part("setparams", **color.tags())
    planes = part("format", pix_fmt)
    up = [part("scale", *size, flags="bicubic")] if size else []
    distorted = chain(source(0, "v:0"), [*stamp, tags, *up, planes])
    reference = chain(source(1, "v:0"), [*stamp, tags, planes])
    if "xpsnr" not in metrics:
        return compiled(libvmaf(distorted, reference, teacher, metrics))
    (distorted, ours), (reference, original) = both(distorted), both(reference)
    scored = libvmaf(distorted, reference, teacher, metrics)
    return compiled(scored, xpsnr(original, ours))


def xpsnr(original: Stream, distorted: Stream) -> Stream:
    """Two links through the xpsnr filter, the original first: its activity weighs the errors."""
    import ffmpeg

    return ffmpeg.filter(
        [original, distorted], "xpsnr", stats_file=XPSNR_LOG, shortest=1, repeatlast=0
    )


def libvmaf(
    distorted: Stream, reference: Stream, teacher: str, metrics: Sequence[str] = ()
) -> Stream:
    """Two links through libvmaf: the teacher clipped and unclipped in one pass, and the six
    features and `metrics` asked for by name.
    """
    import ffmpeg

    models = [
        f"version={teacher}:name=vmaf",
        f"version={teacher}:name=vmaf_unclipped:disable_clip=true",
    ]
    if "neg" in metrics:
        models.append(f"version={neg_of(teacher)}:name=neg")
    features = ("adm", "vif", "motion", *extractors(metrics))
    return ffmpeg.filter(
        [distorted, reference],
        "libvmaf",
        model="|".join(models),
        feature="|".join(f"name={name}" for name in features),
        log_fmt="json",
        log_path=LOG,
        shortest=1,
        repeatlast=0,
    )


def score_argv(cell: Cell, num_frames: int | None = None) -> list[str]:
    """The command that scores `{out}` against `{ref}` and writes vmaf.json into its
    working folder; of the first `num_frames` only where they are given.
    """
    graph = score_graph(cell, num_frames)
    return [
        *COMMON,
        "-v",
        "verbose",
        "-y",
        *FILTER_THREADS,
        *ONLY_FILES,
        "-threads",
        "1",
        "-i",
        "file:{out}",
        *reference_input(cell.window),
        "-lavfi",
        graph.text,
        *graph.maps,
        *TO_NOWHERE,
    ]


def parse_inputs(stderr: str) -> dict[int, Decoded]:
    """What `-v verbose` says of each input, by input number."""
    graph = {int(m[1]): (int(m[2]), int(m[3]), m[4]) for m in _GRAPH.finditer(stderr)}
    return {
        int(m[1]): Decoded(
            width=graph[int(m[1])][0],
            height=graph[int(m[1])][1],
            pix_fmt=graph[int(m[1])][2],
            num_packets=int(m[2]),
            num_bytes=int(m[3]),
            num_frames=int(m[4]),
            num_errors=int(m[5]),
        )
        for m in _INPUT.finditer(stderr)
        if int(m[1]) in graph
    }


def changed_inputs(stderr: str) -> dict[int, tuple[str, ...]]:
    """Inputs whose size or pixel format changes on the way, by input number, each with what it was
    and became.
    """
    seen: dict[int, dict[str, None]] = {}
    for match in _GRAPH.finditer(stderr):
        seen.setdefault(int(match[1]), {})[f"{match[2]}x{match[3]} {match[4]}"] = None
    return {number: tuple(forms) for number, forms in seen.items() if len(forms) > 1}


def check_pair(done: Finished, cell: Cell, num_frames: int, num_scored: int) -> Decoded:
    """The distorted input's facts, once everything agrees with what the cell asked for.

    Raises CellFailure: another size, format or number of frames is an error, never a plausible
    number.
    """
    inputs = parse_inputs(done.stderr)
    if set(inputs) != {0, 1}:
        raise CellFailure(
            FailureKind.SCORE_UNREADABLE, "ffmpeg's log does not say what it decoded", done
        )
    distorted, reference = inputs[0], inputs[1]
    width, height = cell.encode_size
    if (distorted.width, distorted.height) != (width, height):
        size = f"{distorted.width}x{distorted.height}"
        raise CellFailure(
            FailureKind.WRONG_SIZE, f"the encode is {size}, not {width}x{height}", done
        )
    if distorted.pix_fmt.replace("yuvj", "yuv") != cell.decoded_format:
        raise CellFailure(
            FailureKind.WRONG_FORMAT,
            f"the encode is {distorted.pix_fmt}, not {cell.decoded_format}",
            done,
        )
    num_errors = (
        distorted.num_errors + reference.num_errors + done.stderr.count("corrupt decoded frame")
    )
    if num_errors:
        raise CellFailure(
            FailureKind.DECODE_ERRORS, f"{num_errors} frames of the encode do not decode", done
        )
    counts = (num_frames, reference.num_frames, distorted.num_frames, num_scored)
    if len(set(counts)) != 1:
        raise CellFailure(
            FailureKind.WRONG_FRAME_COUNT,
            f"reference {counts[0]} frames ({counts[1]} read), encode {counts[2]}, scored"
            f" {counts[3]}: all must agree",
            done,
        )
    return distorted


def score(
    cell: Cell, ffmpeg: Ffmpeg, ref: Path, out: Path, num_frames: int, timeout_s: float
) -> Score:
    """Score one encoded cell. Raises CellFailure when counts, size, format or depth differ, or
    libvmaf fails.
    """
    log = out.parent / LOG
    log.unlink(missing_ok=True)
    (out.parent / XPSNR_LOG).unlink(missing_ok=True)
    argv = fill(score_argv(cell), ref=ref, out=out)
    done = ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent)
    if done.returncode and not done.timed_out:
        inputs = parse_inputs(done.stderr)
        if set(inputs) == {0, 1}:
            check_pair(
                done, cell, num_frames, num_frames
            )  # a better reason than the filter's own, if there is one
    check(done, "the scoring", FailureKind.SCORE_FAILED)
    if not log.exists():
        raise CellFailure(FailureKind.SCORE_FAILED, "libvmaf wrote no log", done)
    text = log_text(log)
    version, frames = parse_log(text, cell.teacher)
    distorted = check_pair(done, cell, num_frames, len(frames))
    further = further_rows(text, out.parent, cell.metrics, _scored_format(cell))
    if cell.window.pad_before or cell.window.pad_after:
        further = further[cell.window.pad_before : len(frames) - cell.window.pad_after]
        frames, distorted = _without_padding(cell.window, out, frames, distorted)
    return Score(
        frames=frames,
        distorted=distorted,
        cpu_s=done.cpu_s,
        libvmaf_version=version,
        further=further,
    )


def further_rows(
    log: str, folder: Path, metrics: Sequence[str], pix_fmt: str
) -> tuple[FurtherRow, ...]:
    """The columns of `metrics` per frame, from libvmaf's log and what else lies in `folder`.

    Raises CellFailure when one is missing.
    """
    if not metrics:
        return ()
    logged = [entry.metrics for entry in read_log(log).frames]
    return parse_further(logged, xpsnr_text(folder, metrics), metrics, pix_fmt)


def _scored_format(cell: Cell) -> str:
    return scoring_format(cell.window.pix_fmt, cell.decoded_format)


def _without_padding(
    window: Window, encode: Path, frames: tuple[Frame, ...], distorted: Decoded
) -> tuple[tuple[Frame, ...], Decoded]:
    """What belongs to the window itself: its frames, counted from 0, and the bytes of their
    packets.
    """
    first, last = window.pad_before, len(frames) - window.pad_after
    inside = tuple(replace(frame, index=i) for i, frame in enumerate(frames[first:last]))
    sizes = packet_bytes(encode)[first:last]
    counted = replace(
        distorted, num_packets=len(sizes), num_bytes=sum(sizes), num_frames=len(inside)
    )
    return inside, counted


def packet_bytes(encode: Path) -> list[int]:
    """Bytes of every packet of an encode's video, in the order in which frames are shown."""
    import av

    with av.open(os.path.abspath(encode)) as box:
        packets = [p for p in box.demux(video=0) if p.size and p.pts is not None]
    return [p.size for p in sorted(packets, key=lambda p: p.pts)]
