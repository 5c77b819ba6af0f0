"""Join encodes of consecutive windows into one film: no packet is encoded again, no frame is lost.

Each encode was made alone, so it begins with a keyframe and carries its own stamps in whole
milliseconds. Two things make the join exact. ffmpeg's concat reader puts the parameter sets of
every encode in band, since each x264 quality value writes a picture parameter set of its own. And
`setts` writes every stamp anew from the frame's index: the milliseconds are only read to the
nearest frame, so no error adds up. Packets stay in decoding order; their decoding stamps count
packets, moved back by the largest reordering of any part.

    parts (mkv) --measure--> Part --join_argv--> film.mkv | film.mp4 | film.webm
                                   '--frame_digests--> equal, or the file never appears
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from vmaf_train.corpus.rows import FailureKind

from vmaftune.media.containers import Stream, carried, container_of
from vmaftune.media.encode import COMMON, check, fill
from vmaftune.media.failure import CellFailure
from vmaftune.media.ffmpeg import Ffmpeg
from vmaftune.media.output import appear, beside

REFUSED_CODECS = {"vvc": "no test has shown that VVC encodes join without loss"}
_DIGEST = re.compile(r"^0,.*,\s*([0-9a-f]{32})$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class FilmPart:
    """One encode to join: its file, its number of frames, and how far its packets are reordered.

    `delay` is the largest number of packets by which a frame is shown before its place in decoding
    order: 0 without B-frames.
    """

    path: Path
    num_frames: int
    delay: int


def measure(path: Path, num_frames: int, fps: Fraction) -> FilmPart:
    """Read the packets of one encode of `num_frames` at `fps` frames per second.

    Raises CellFailure unless its stamps are those of frames 0 to num_frames - 1, each once.
    """
    indices = _indices(path, fps)
    if sorted(indices) != list(range(num_frames)):
        raise CellFailure(
            FailureKind.WRONG_FRAME_COUNT,
            f"{path.name} does not hold one packet for each of its {num_frames} frames",
        )
    delay = max((place - index for place, index in enumerate(indices)), default=0)
    return FilmPart(path=path, num_frames=num_frames, delay=delay)


def _indices(path: Path, fps: Fraction) -> list[int]:
    """Which frame each packet holds, in decoding order, by the nearest time at `fps`; the first
    frame that is shown is 0.
    """
    import av

    with av.open(str(path)) as opened:
        stream = opened.streams.video[0]
        base = stream.time_base or Fraction(1, 1000)
        times = [(p.pts or 0) * base for p in opened.demux(stream) if p.size]
    first = min(times, default=Fraction(0))
    return [round((time - first) * fps) for time in times]


def concat_script(parts: Sequence[FilmPart], fps: Fraction) -> str:
    """The text of ffmpeg's concat list: each file with its exact length in seconds."""
    lines = ["ffconcat version 1.0"]
    for part in parts:
        quoted = str(part.path.absolute()).replace("'", r"'\''")
        lines += [f"file '{quoted}'", f"duration {float(part.num_frames / fps):.6f}"]
    return "\n".join(lines) + "\n"


def stamps(parts: Sequence[FilmPart], fps: Fraction, start: Fraction = Fraction(0)) -> str:
    """The `setts` bitstream filter that writes stamps from frame indices.

    Its clock ticks `fps.numerator` times a second, so a frame lasts `fps.denominator` ticks
    exactly. `start` (seconds) is when the first frame is shown.
    """
    tick, length = fps.numerator, fps.denominator
    delay = max((part.delay for part in parts), default=0)
    offset = round(start * tick)
    return (
        f"setts=time_base=1/{tick}:prescale=1:pts=round(PTS/{length})*{length}+{offset}"
        f":dts=(N-{delay})*{length}+{offset}:duration={length}"
    )


def join_argv(
    parts: Sequence[FilmPart],
    fps: Fraction,
    film: Path | None,
    streams: Sequence[Stream],
    out: Path,
    *,
    start: Fraction = Fraction(0),
) -> list[str]:
    """The command that joins `{list}` and copies what the film holds beside its pictures.

    `out` decides the container. `start` (seconds) is when the film's first frame is shown.
    """
    container = container_of(out)
    inputs = ["-f", "concat", "-safe", "0", "-i", "file:{list}"]
    maps = ["-map", "0:v:0"]
    if film is not None:
        inputs += ["-i", "file:{film}"]
        for stream in carried(streams):
            maps += ["-map", f"1:{stream.index}"]
        maps += ["-map_metadata", "1", "-map_chapters", "1"]
    scale = ["-video_track_timescale", str(fps.numerator)] if container.muxer == "mp4" else []
    return [
        *COMMON,
        "-v",
        "info",
        "-y",
        *inputs,
        *maps,
        "-c",
        "copy",
        "-bsf:v:0",
        stamps(parts, fps, start),
        "-max_interleave_delta",
        "0",
        *scale,
        "-f",
        container.muxer,
        "file:{out}",
    ]


def digest_argv() -> list[str]:
    """The command that prints the md5 of every decoded frame of `{out}`."""
    return [
        *COMMON,
        "-v",
        "error",
        "-i",
        "file:{out}",
        "-map",
        "0:v:0",
        "-fps_mode",
        "passthrough",
        "-f",
        "framemd5",
        "-",
    ]


def frame_digests(ffmpeg: Ffmpeg, file: Path, timeout_s: float) -> tuple[str, ...]:
    """The md5 of every decoded frame of a video, in order. Raises CellFailure when it breaks."""
    argv = fill(digest_argv(), out=file.absolute())
    done = check(
        ffmpeg.run(argv, timeout_s=timeout_s, cwd=file.parent),
        "reading back",
        FailureKind.JOIN_FAILED,
    )
    return tuple(_DIGEST.findall(done.stdout.decode("ascii", "replace")))


def join(
    encodes: Sequence[tuple[Path, int]],
    fps: Fraction,
    out: Path,
    ffmpeg: Ffmpeg,
    timeout_s: float,
    *,
    film: Path | None = None,
    streams: Sequence[Stream] = (),
    start: Fraction = Fraction(0),
    force: bool = False,
) -> int:
    """Join encodes of consecutive windows into `out`; the number of frames.

    `encodes` holds the file and the number of frames of each, in order.

    The file appears whole, and only when its decoded frames are those of the encodes, in order.
    `force` lets it take the place of another. Raises CellFailure naming what differs, UsageError
    for a file that is there.
    """
    parts = [measure(path, num_frames, fps) for path, num_frames in encodes]
    script = beside(out, before=".", after=".ffconcat")
    part = beside(out)
    try:
        script.write_text(concat_script(parts, fps), encoding="utf-8")
        named = {"list": script.absolute(), "out": part.absolute()}
        if film is not None:
            named["film"] = film.absolute()
        argv = fill(join_argv(parts, fps, film, streams, out, start=start), **named)
        check(
            ffmpeg.run(argv, timeout_s=timeout_s, cwd=out.parent),
            "joining",
            FailureKind.JOIN_FAILED,
        )
        _check_frames(parts, part, fps, ffmpeg, timeout_s)
        appear(part, out, force=force)
    finally:
        script.unlink(missing_ok=True)
        part.unlink(missing_ok=True)
    return sum(p.num_frames for p in parts)


def _check_frames(
    parts: Sequence[FilmPart],
    joined: Path,
    fps: Fraction,
    ffmpeg: Ffmpeg,
    timeout_s: float,
) -> None:
    """Raise CellFailure unless the joined file decodes to the frames of the parts, each at its
    time.
    """
    total = sum(part.num_frames for part in parts)
    if sorted(_indices(joined, fps)) != list(range(total)):
        raise CellFailure(
            FailureKind.JOIN_FAILED, "the joined file shows frames at other times than the film"
        )
    wanted: list[str] = []
    for part in parts:
        wanted += frame_digests(ffmpeg, part.path, timeout_s)
    found = frame_digests(ffmpeg, joined, timeout_s)
    if len(found) != len(wanted):
        raise CellFailure(
            FailureKind.JOIN_FAILED,
            f"the joined file has {len(found)} frames and its parts {len(wanted)}",
        )
    wrong = [i for i, (a, b) in enumerate(zip(found, wanted, strict=True)) if a != b]
    if wrong:
        raise CellFailure(
            FailureKind.JOIN_FAILED,
            f"frame {wrong[0]} of the joined file is not the one that was encoded",
        )
